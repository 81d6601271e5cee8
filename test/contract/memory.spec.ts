import { randomUUID } from 'node:crypto';
import { IdempotencyConfigError, IdempotencyStoreError } from '../../lib/core/errors.js';
import type { ClaimRequest } from '../../lib/core/store.js';
import { memoryStore } from '../../lib/stores/memory/memory-store.js';
import { describeStoreContract, fakeClock } from '../../lib/testing/index.js';
import { describeContracts } from './side-by-side.js';

describeStoreContract('memoryStore', async () => {
  const clock = fakeClock();
  return { store: memoryStore({ clock }), advance: (ms) => clock.advance(ms) };
});

describeContracts('memoryStore keeps the store contract', [
  { name: 'on the real clock', factory: async () => ({ store: memoryStore() }) },
]);

describe('memoryStore', () => {
  const request = (recordKey: string, changes: Partial<ClaimRequest> = {}): ClaimRequest => ({
    recordKey,
    operation: 'POST /charges',
    fingerprint: 'f',
    claimToken: randomUUID(),
    leaseMs: 1_000,
    retentionMs: 5_000,
    keepAbandoned: false,
    takeOver: false,
    ...changes,
  });
  const answer = { kept: true, status: 200, headers: [], body: new Uint8Array(1) } as const;

  it('refuses a new key when it is full, and forgets nothing for it', async () => {
    const clock = fakeClock();
    const store = memoryStore({ maxRecords: 2, clock });
    const live = request('live');
    await store.claim(live);
    const done = request('done');
    await store.claim(done);
    await store.complete(done, answer, 5_000);

    await expect(store.claim(request('new'))).rejects.toThrow(IdempotencyStoreError);
    await expect(store.claim(request('new'))).rejects.toThrow('memoryStore is full (maxRecords 2)');
    expect((await store.claim(request('done'))).kind).toBe('completed');
    expect(await store.renew(live, 60_000)).toBe('written');
    expect(await store.find('new')).toBeUndefined();
  });

  it('makes room by dropping what is over, to the millisecond', async () => {
    const clock = fakeClock();
    const store = memoryStore({ maxRecords: 2, clock });
    await store.claim(request('live', { leaseMs: 60_000 }));
    const done = request('done');
    await store.claim(done);
    await store.complete(done, answer, 5_000);
    clock.advance(4_999);
    await expect(store.claim(request('new'))).rejects.toThrow(IdempotencyStoreError);
    clock.advance(1);
    expect((await store.claim(request('new'))).kind).toBe('claimed');
    expect((await store.claim(request('live'))).kind).toBe('in_progress');
    await expect(store.claim(request('newer'))).rejects.toThrow(IdempotencyStoreError);
  });

  it('makes no room of an abandoned record that is kept, until it is settled', async () => {
    const clock = fakeClock();
    const store = memoryStore({ maxRecords: 1, clock });
    await store.claim(request('kept', { keepAbandoned: true }));
    clock.advance(365 * 24 * 60 * 60 * 1_000);
    await expect(store.claim(request('new'))).rejects.toThrow(IdempotencyStoreError);
    await store.resolve('kept', { kind: 'completed', answer }, 1_000);
    clock.advance(1_000);
    expect((await store.claim(request('new'))).kind).toBe('claimed');
  });

  it('when full still claims the keys that it holds', async () => {
    const clock = fakeClock();
    const store = memoryStore({ maxRecords: 1, clock });
    const first = request('k', { fingerprint: 'f1' });
    await store.claim(first);
    await store.release(first, { began: true });
    const second = request('k', { fingerprint: 'f2' });
    expect(await store.claim(second)).toMatchObject({ kind: 'claimed', claim: { attempt: 1 } });
    await store.complete(second, answer, 10);
    clock.advance(10);
    expect(await store.claim(request('k', { fingerprint: 'f3' }))).toMatchObject({ kind: 'claimed' });
  });

  it('refuses a maxRecords that is no count', () => {
    for (const maxRecords of [0, -1, 1.5, NaN, Infinity]) {
      expect(() => memoryStore({ maxRecords })).toThrow(IdempotencyConfigError);
    }
  });

  it('gives greater fencing tokens than a store of this machine did earlier', async () => {
    const clock = fakeClock();
    const earlier = memoryStore({ clock });
    let last = 0;
    for (let n = 0; n < 500; n += 1) {
      const result = await earlier.claim(request(`k${n}`));
      if (result.kind === 'claimed') last = result.claim.fencingToken;
    }
    clock.advance(1);
    const result = await memoryStore({ clock }).claim(request('k'));
    expect(result.kind === 'claimed' && result.claim.fencingToken).toBeGreaterThan(last);
  });

  it('still increases them when its clock is set back', async () => {
    const clock = fakeClock();
    const store = memoryStore({ clock });
    const before = await store.claim(request('a'));
    clock.set(clock.now() - 60_000);
    const after = await store.claim(request('b'));
    const [one, two] = [before, after].map((result) => (result.kind === 'claimed' ? result.claim.fencingToken : 0));
    expect(two).toBeGreaterThan(one!);
  });

  it('decides before it gives way: calls take effect in the order in which they are made', async () => {
    const store = memoryStore();
    const claim = request('k');
    const results = await Promise.all([
      store.claim(claim),
      store.complete(claim, answer, 1_000),
      store.claim(request('k')),
      store.forget('k'),
      store.find('k'),
    ]);
    expect(results.map((result) => (typeof result === 'object' ? (result as { kind: string }).kind : result))).toEqual([
      'claimed',
      'written',
      'completed',
      true,
      undefined,
    ]);
  });

  it('wakes each waiter once, but none that has gone in the meantime', async () => {
    const store = memoryStore();
    const claim = request('k');
    await store.claim(claim);
    const woken: string[] = [];
    const ends = [
      store.subscribe('k', () => {
        woken.push('first');
        ends[1]!(); // ended by its neighbour after the wake was due: not called any more
      }),
      store.subscribe('k', () => woken.push('second')),
      store.subscribe('k', () => woken.push('third')),
    ];
    await store.release(claim, { began: true });
    await Promise.resolve();
    expect(woken).toEqual(['first', 'third']);
    for (const end of ends) end();
  });
});
