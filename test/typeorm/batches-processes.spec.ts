import { once } from 'node:events';
import type { DataSource } from 'typeorm';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { spawnFixture, type Fixture } from '../support/processes.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import type { Told } from './fixtures/claimer.js';
import { answer, HOUR_MS, request } from './requests.js';

const ROUNDS = Number(process.env['BATCH_ROUNDS'] ?? 12);
const PROCESSES = 3;
const KEYS = 60;
const BOOT_MS = 90_000;

type Request = ReturnType<typeof request>;

let database: TestDatabase;
let dataSource: DataSource;
let store: IdempotencyStore;
let processes: Fixture[] = [];

beforeAll(async () => {
  database = await createTestDatabase('batches of processes');
  dataSource = await connectedDataSource(database.url);
  store = await storeOver(dataSource, { deadline: '20s' });
  const file = new URL('fixtures/claimer.ts', import.meta.url);
  processes = await Promise.all(
    Array.from({ length: PROCESSES }, () => spawnFixture(file, { env: { URL: database.url }, readyTimeout: BOOT_MS })),
  );
}, BOOT_MS);

afterAll(async () => {
  await Promise.all(processes.map((each) => each.stop()));
  await store?.stop?.();
  await dataSource?.destroy();
  await database?.drop();
});

/** What each process answers, all told at the same moment. */
async function tell(of: (index: number) => Told): Promise<string[][]> {
  return Promise.all(
    processes.map(async ({ child }, index) => {
      const answered = once(child, 'message') as Promise<[{ results: string[] }]>;
      child.send(of(index));
      return (await answered)[0].results;
    }),
  );
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** Keys in every state in which they can be claimed: never seen, released, abandoned, over. */
async function freeKeys(): Promise<string[]> {
  const owns = Array.from({ length: KEYS }, () => request());
  await Promise.all(
    owns.map(async (own, index) => {
      if (index % 4 === 0) return;
      await store.claim(own);
      if (index % 4 === 1) await store.release(own, { began: true });
      else if (index % 4 === 2) await store.abandon(own, { began: true });
      else await store.complete(own, answer(), 1);
    }),
  );
  return owns.map(({ recordKey }) => recordKey);
}

it('the same keys in batches of three processes, each in another order: one claim of each wins, and nobody waits in a circle', async () => {
  const winners = new Set<number>();
  // Who comes first is chance, so it goes on until each has been the first somewhere.
  for (let round = 0; round < ROUNDS || winners.size < PROCESSES; round += 1) {
    const keys = await freeKeys();
    const asked = processes.map(() => shuffled(keys).map((recordKey) => request({ recordKey, takeOver: true })));
    const claimed = await tell((index) => ({ claim: asked[index]! }));
    const won = new Map<string, Request>();
    for (const [index, results] of claimed.entries()) {
      expect(results).toHaveLength(KEYS);
      for (const [at, kind] of results.entries()) {
        const own = asked[index]![at]!;
        if (kind === 'claimed') {
          expect(won.has(own.recordKey)).toBe(false);
          won.set(own.recordKey, own);
          winners.add(index);
        } else expect(kind).toBe('in_progress');
      }
    }
    expect(won.size).toBe(KEYS);
    // All complete, also those who have no claim.
    const completed = await tell((index) => ({ complete: asked[index]! }));
    for (const [index, results] of completed.entries()) {
      const expected = asked[index]!.map((own) => (won.get(own.recordKey) === own ? 'written' : 'lost'));
      expect(results).toEqual(expected);
    }
    const views = await Promise.all(keys.map((recordKey) => store.find(recordKey)));
    expect(views.map((view) => view?.answer)).toEqual(keys.map((key) => answer(won.get(key)!.claimToken)));
  }
  expect(winners.size).toBe(PROCESSES);
  const [{ deadlocks }] = (await dataSource.query(
    'SELECT deadlocks::integer AS deadlocks FROM pg_stat_database WHERE datname = current_database()',
  )) as [{ deadlocks: number }];
  expect(deadlocks).toBe(0);
}, 120_000);

it('claims, completions, releases and purges of mixed keys at once: what is told is what is kept', async () => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const keys = await freeKeys();
    const mine = keys.map((recordKey) => request({ recordKey, takeOver: true }));
    const first = await Promise.all(mine.map((own) => store.claim(own)));
    expect(new Set(first.map(({ kind }) => kind))).toEqual(new Set(['claimed']));
    const rivals = processes.map(() => shuffled(keys).map((recordKey) => request({ recordKey, takeOver: true })));
    const [written, told] = await Promise.all([
      Promise.all(
        mine.map((own, index) =>
          index % 2 === 0 ? store.complete(own, answer(own.claimToken), HOUR_MS) : store.release(own, { began: true }),
        ),
      ),
      tell((index) => ({ claim: rivals[index]! })),
      store.purge(1_000),
    ]);
    expect(new Set(written)).toEqual(new Set(['written']));
    const claims = new Map<string, number>();
    for (const [index, results] of told.entries()) {
      for (const [at, kind] of results.entries()) {
        expect(['claimed', 'in_progress', 'completed']).toContain(kind);
        const { recordKey } = rivals[index]![at]!;
        if (kind === 'claimed') claims.set(recordKey, (claims.get(recordKey) ?? 0) + 1);
      }
    }
    for (const [index, { recordKey, claimToken }] of mine.entries()) {
      const view = await store.find(recordKey);
      if (index % 2 === 0) {
        expect(claims.has(recordKey)).toBe(false);
        expect(view?.answer).toEqual(answer(claimToken));
      } else {
        const won = claims.get(recordKey) ?? 0;
        expect(won).toBeLessThanOrEqual(1);
        expect(view?.state).toBe(won === 1 ? 'in_progress' : 'released');
      }
    }
  }
}, 120_000);
