import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import type { ClaimResult, IdempotencyStore } from '../../lib/core/store.js';
import { idempotencyMigration } from '../../lib/stores/typeorm/index.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';
import { until } from './waiting.js';

const POOLS = 4;

function kinds(results: readonly ClaimResult[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kind } of results) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

describe.each([
  ['read committed', undefined],
  ['repeatable read', undefined],
  ['serializable', undefined],
  ['read committed, in 16 partitions', 16],
])('in a database that is %s', (title, partitions) => {
  let database: TestDatabase;
  const dataSources: DataSource[] = [];
  const stores: IdempotencyStore[] = [];

  beforeAll(async () => {
    database = await createTestDatabase(`races ${title}`);
    const migrations = [idempotencyMigration({ ...(partitions !== undefined && { partitions }) })];
    const admin = await connectedDataSource(database.url, { migrations });
    const isolation = title.split(',')[0]!;
    await admin.query(
      `ALTER DATABASE ${new URL(database.url).pathname.slice(1)} SET default_transaction_isolation = '${isolation}'`,
    );
    dataSources.push(admin);
    for (let index = 0; index < POOLS; index += 1) {
      const dataSource = await connectedDataSource(database.url, { migrations });
      dataSources.push(dataSource);
      stores.push(await storeOver(dataSource, { deadline: '20s' }));
    }
    const [{ isolation: now }] = (await dataSources[1]!.query(
      `SELECT current_setting('transaction_isolation') AS isolation`,
    )) as [{ isolation: string }];
    expect(now).toBe(isolation);
  });

  afterAll(async () => {
    for (const store of stores) await store.stop?.();
    for (const dataSource of dataSources) await dataSource.destroy();
    await database.drop();
  });

  const at = (index: number): IdempotencyStore => stores[index % POOLS]!;

  /** 100 claims at once over all pools, each with a token of its own. */
  function hundredClaims(changes: Parameters<typeof request>[0]): Promise<ClaimResult[]> {
    return Promise.all(Array.from({ length: 100 }, (_, index) => at(index).claim(request(changes))));
  }

  it('100 claims of a new key: one wins', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { recordKey } = request();
      expect(kinds(await hundredClaims({ recordKey }))).toEqual({ claimed: 1, in_progress: 99 });
    }
  });

  it('100 claims of an abandoned key with takeOver: one wins, and it is attempt 2', async () => {
    const own = request();
    await at(0).claim(own);
    await at(0).abandon(own, { began: true });
    const results = await hundredClaims({ recordKey: own.recordKey, takeOver: true });
    expect(kinds(results)).toEqual({ claimed: 1, in_progress: 99 });
    expect(results.find(({ kind }) => kind === 'claimed')).toMatchObject({ claim: { attempt: 2, tookOver: true } });
  });

  it('100 claims of a released key: one wins', async () => {
    const own = request();
    await at(0).claim(own);
    await at(1).release(own, { began: true });
    expect(kinds(await hundredClaims({ recordKey: own.recordKey }))).toEqual({ claimed: 1, in_progress: 99 });
  });

  it('100 claims of a key whose retention ends: one wins', async () => {
    const own = request();
    await at(0).claim(own);
    await at(0).complete(own, answer(), 50);
    await until('the retention is over', async () => (await at(0).find(own.recordKey)) === undefined);
    expect(kinds(await hundredClaims({ recordKey: own.recordKey }))).toEqual({ claimed: 1, in_progress: 99 });
  });

  it('one claim sent 100 times, as after lost replies: all are the same claim', async () => {
    const own = request();
    const results = await Promise.all(Array.from({ length: 100 }, (_, index) => at(index).claim(own)));
    expect(kinds(results)).toEqual({ claimed: 100 });
    expect(new Set(results.map((result) => JSON.stringify(result))).size).toBe(1);
  });

  it('one completion sent 20 times: all are told that it is written', async () => {
    const own = request();
    await at(0).claim(own);
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) => at(index).complete(own, answer(), HOUR_MS)),
    );
    expect(new Set(results)).toEqual(new Set(['written']));
  });

  it('completion, release and takeover at once: what is told is what is kept', async () => {
    for (let round = 0; round < 20; round += 1) {
      const own = request({ leaseMs: 60_000 });
      await at(0).claim(own);
      const [completed, released, forgotten] = await Promise.all([
        at(1).complete(own, answer(), HOUR_MS),
        at(2).release(own, { began: true }),
        at(3).forget(own.recordKey),
      ]);
      expect([completed, released].filter((result) => result === 'written')).toHaveLength(1);
      const state = (await at(0).find(own.recordKey))?.state;
      if (!forgotten) expect(state).toBe(completed === 'written' ? 'completed' : 'released');
      else expect(state).toBeUndefined();
    }
  });

  it('fencing tokens grow through everything that can happen to a key', async () => {
    const { recordKey } = request();
    let last = 0;
    for (let round = 0; round < 40; round += 1) {
      const own = request({ recordKey, claimToken: randomUUID(), takeOver: true, retentionMs: 1 });
      const result = await at(round).claim(own);
      expect(result.kind).toBe('claimed');
      const { fencingToken } = (result as Extract<ClaimResult, { kind: 'claimed' }>).claim;
      expect(fencingToken).toBeGreaterThan(last);
      expect(Number.isSafeInteger(fencingToken)).toBe(true);
      last = fencingToken;
      if (round % 5 === 0) await at(round + 1).release(own, { began: false });
      else if (round % 5 === 1) await at(round + 1).release(own, { began: true });
      else if (round % 5 === 2) await at(round + 1).abandon(own, { began: round % 2 === 0 });
      else if (round % 5 === 3) await at(round + 1).complete(own, answer(), 1);
      else await at(round + 1).renew(own, 1);
      await until('it is free again', async () => (await at(0).find(recordKey))?.state !== 'completed');
      await at(round).purge(100);
    }
  });

  it('purges beside claims, from all pools: only what is over goes, and each of it once', async () => {
    const over = await Promise.all(
      Array.from({ length: 300 }, async (_, index) => {
        const own = request();
        await at(index).claim(own);
        await at(index).complete(own, answer(), 1);
        return own;
      }),
    );
    const kept = await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        const own = request({ keepAbandoned: index % 2 === 0, retentionMs: HOUR_MS });
        await at(index).claim(own);
        if (index % 5 === 0) await at(index).abandon(own, { began: true });
        else if (index % 5 === 1) await at(index).complete(own, answer(), HOUR_MS);
        else if (index % 5 === 2) await at(index).renew(own, 1);
        return own;
      }),
    );
    let removed = 0;
    // Some keys are used again while they are being purged: a claim wins over a purge.
    const again = Promise.all(over.slice(0, 40).map(({ recordKey }, index) => at(index).claim(request({ recordKey }))));
    await until('all that is over is gone', async () => {
      removed += (await Promise.all(stores.map((store) => store.purge(20)))).reduce((sum, each) => sum + each, 0);
      const [{ left }] = (await dataSources[0]!.query(
        `SELECT count(*)::integer AS left FROM idempotency_records WHERE expires_at <= clock_timestamp()`,
      )) as [{ left: number }];
      return left === 0;
    });
    for (const { kind } of await again) expect(kind).toBe('claimed');
    for (const { recordKey } of over.slice(0, 40)) expect((await at(0).find(recordKey))?.state).toBe('in_progress');
    for (const { recordKey } of kept) expect(await at(0).find(recordKey)).toBeDefined();
    expect(removed).toBeGreaterThanOrEqual(260);
    expect(removed).toBeLessThanOrEqual(310);
  });
});
