import type { DataSource } from 'typeorm';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';
import { until } from './waiting.js';

let database: TestDatabase;
let dataSource: DataSource;
let store: IdempotencyStore;

beforeEach(async () => {
  database = await createTestDatabase('in-place');
  dataSource = await connectedDataSource(database.url);
  store = await storeOver(dataSource);
});

afterEach(async () => {
  await store.stop?.();
  await dataSource.destroy();
  await database.drop();
});

interface Writes {
  readonly inserted: number;
  readonly updated: number;
  /** Updates that changed no index. */
  readonly hot: number;
}

/** What the server has counted. Its processes tell it at their end, else some seconds after their writes. */
async function writes(): Promise<Writes> {
  await store.stop?.();
  const others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'idempotency'";
  await until('the store has no connection', async () => ((await dataSource.query(others)) as unknown[]).length === 0);
  const [found] = (await dataSource.query(
    `SELECT n_tup_ins::integer AS inserted, n_tup_upd::integer AS updated, n_tup_hot_upd::integer AS hot
     FROM pg_stat_user_tables WHERE relname = 'idempotency_records'`,
  )) as [Writes];
  return found;
}

/** Milliseconds from the moment at which a purge will look at the record to its end; each is a reading of the clock of its own. */
async function early(recordKey: string): Promise<number | null> {
  const [row] = (await dataSource.query(
    `SELECT (extract(epoch FROM expires_at - purge_after) * 1000)::float8 AS ms FROM idempotency_records WHERE record_key = $1`,
    [Buffer.from(recordKey, 'base64url')],
  )) as [{ ms: number | null }];
  return row.ms;
}

describe('a record that is written again', () => {
  it('lies where it lay, and no index is touched: renewed, streamed to, completed, released and claimed again', async () => {
    for (const keepAbandoned of [true, false]) {
      const completed = request({ keepAbandoned });
      await store.claim(completed);
      expect(await store.renew(completed, 120_000)).toBe('written');
      const batch = { firstSeq: 1, items: [Buffer.from('token')], head: { status: 200, headers: [] } };
      await store.events!.append(completed, batch, 60_000);
      expect(await store.complete(completed, answer('x'.repeat(300)), HOUR_MS)).toBe('written');

      const released = request({ keepAbandoned });
      await store.claim(released);
      expect(await store.release(released, { began: true })).toBe('written');
      const again = { ...released, claimToken: request().claimToken };
      expect((await store.claim(again)).kind).toBe('claimed');
      expect(await store.abandon(again, { began: true })).toBe('written');
    }
    expect(await writes()).toEqual({ inserted: 4, updated: 12, hot: 12 });
  });
});

describe('a purge', () => {
  it('removes a record at its end, although it was first looked at before, or was to be kept', async () => {
    // The retention that was known at the claim is over while it runs, and while nobody says how it ended.
    const running = request({ retentionMs: 1 });
    const abandoned = request({ retentionMs: 1 });
    const released = request({ retentionMs: 1 });
    for (const own of [running, abandoned, released]) await store.claim(own);
    await store.abandon(abandoned, { began: true });
    await until('all three were looked at', async () => {
      expect(await store.purge(100)).toBe(0);
      const rows: unknown[] = await dataSource.query('SELECT FROM idempotency_records WHERE purge_after IS NOT NULL');
      return rows.length === 0;
    });
    expect(await store.complete(running, answer(), HOUR_MS)).toBe('written');
    expect(await store.resolve(abandoned.recordKey, { kind: 'completed', answer: answer() }, 1)).toBe(true);
    expect(await store.release(released, { began: true })).toBe('written');
    await until('two of them are gone', async () => {
      await store.purge(100);
      const kept = [running, abandoned, released].map(({ recordKey }) => store.find(recordKey));
      const rows: unknown[] = await dataSource.query('SELECT FROM idempotency_records');
      return rows.length === 1 && (await Promise.all(kept)).filter(Boolean).length === 1;
    });
    expect(await store.find(running.recordKey)).toMatchObject({ state: 'completed' });
    expect(Math.abs((await early(running.recordKey))!)).toBeLessThan(1_000);
  });

  it('waits for a run that is longer than its retention, and comes in time where the answer says a shorter one', async () => {
    const long = request({ keepAbandoned: false, retentionMs: 1, leaseMs: 1 });
    const short = request({ retentionMs: HOUR_MS });
    await store.claim(long);
    await store.claim(short);
    await store.complete(short, answer(), 1);
    expect(Math.abs((await early(short.recordKey))!)).toBeLessThan(1_000);
    await until('both are gone', async () => {
      await store.purge(100);
      return ((await dataSource.query('SELECT FROM idempotency_records')) as unknown[]).length === 0;
    });
  });

  it('goes on behind more records than it may remove that are not at their end', async () => {
    const kept = Array.from({ length: 30 }, () => request({ retentionMs: 1 }));
    for (const own of kept) await store.claim(own);
    const over = request();
    await store.claim(over);
    await store.complete(over, answer(), 1);
    await until('the purge has found what is behind them', async () => (await store.purge(4)) === 1);
    expect(await store.purge(4)).toBe(0);
    for (const own of kept) expect(await store.find(own.recordKey)).toMatchObject({ state: 'in_progress' });
  });
});
