import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { recordKeyOf } from '../../lib/core/record-key.js';
import type { Claim } from '../../lib/core/record.js';
import type { ClaimRequest, IdempotencyStore } from '../../lib/core/store.js';
import { MemoryStore } from '../../lib/stores/memory/memory-store.js';
import { redisStore } from '../../lib/stores/redis/index.js';
import { hasRedisServer, startRedis } from '../support/redis-process.js';

/** Long enough for two calls in a row on a busy machine. */
const LEASE_MS = 400;

async function claim(store: IdempotencyStore, key: string, takeOver: boolean): Promise<Claim> {
  const request: ClaimRequest = {
    recordKey: recordKeyOf({ scope: 'acme', operation: 'POST /charges', key }),
    operation: 'POST /charges',
    fingerprint: 'p',
    claimToken: randomUUID(),
    leaseMs: LEASE_MS,
    retentionMs: 60_000,
    keepAbandoned: true,
    takeOver,
  };
  const result = await store.claim(request);
  if (result.kind !== 'claimed') throw new Error(`The claim was answered ${result.kind}.`);
  return result.claim;
}

const lapse = (): Promise<void> => sleep(LEASE_MS + 100);

/** Found by the simulation (seed 651): what was before the first of two undone claims was forgotten. */
const stores: Record<string, () => Promise<{ store: IdempotencyStore; end: () => Promise<unknown> }>> = {
  memory: async () => ({ store: new MemoryStore(), end: async () => undefined }),
  ...(hasRedisServer() && {
    redis: async () => {
      const server = await startRedis();
      const client = new Redis(server.url);
      const store = redisStore({ client });
      const end = async (): Promise<void> => {
        await store.stop?.();
        client.disconnect();
        await server.stop();
      };
      return { store, end };
    },
  }),
};

describe.each(Object.keys(stores))('two claims in a row that are undone (%s)', (name) => {
  let store: IdempotencyStore;
  let end: () => Promise<unknown>;
  beforeAll(async () => ({ store, end } = await stores[name]!()));
  afterAll(() => end());

  it('leave an abandoned run abandoned: it is taken over, and not forgotten', async () => {
    const run = await claim(store, 'abandoned', true);
    await lapse();
    const first = await claim(store, 'abandoned', true);
    await lapse();
    const second = await claim(store, 'abandoned', true);
    for (const undone of [second, first]) expect(await store.release(undone, { began: false })).toBe('written');
    const view = await store.find(run.recordKey);
    expect(view).toMatchObject({ state: 'abandoned', recordId: run.recordId, attempt: 1 });
    expect(await claim(store, 'abandoned', true)).toMatchObject({ attempt: 2, tookOver: true, recordId: run.recordId });
  });

  it('leave a released record released: its attempt is counted', async () => {
    const run = await claim(store, 'released', true);
    expect(await store.release(run, { began: true })).toBe('written');
    const first = await claim(store, 'released', true);
    await lapse();
    const second = await claim(store, 'released', true);
    for (const undone of [second, first]) expect(await store.release(undone, { began: false })).toBe('written');
    const view = await store.find(run.recordKey);
    expect(view).toMatchObject({ state: 'released', recordId: run.recordId, attempt: 1 });
    expect(await claim(store, 'released', true)).toMatchObject({ attempt: 2, tookOver: false, recordId: run.recordId });
  });

  it('leave nothing where there was nothing', async () => {
    const first = await claim(store, 'none', true);
    await lapse();
    const second = await claim(store, 'none', true);
    for (const undone of [second, first]) expect(await store.release(undone, { began: false })).toBe('written');
    expect(await store.find(first.recordKey)).toBeUndefined();
  });
});
