import type { DataSource } from 'typeorm';
import type { RecordedAnswer } from '../../lib/core/record.js';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { batchesSql } from '../../lib/stores/typeorm/batches.sql.js';
import { logsSql } from '../../lib/stores/typeorm/logs.sql.js';
import { postgresSql, type Statement } from '../../lib/stores/typeorm/postgres.sql.js';
import { claimValues, type ClaimItem } from '../../lib/stores/typeorm/record-batches.js';
import { quoteTables, tablesInDataSource } from '../../lib/stores/typeorm/table-name.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';

let database: TestDatabase;
let dataSource: DataSource;
let store: IdempotencyStore;

beforeAll(async () => {
  database = await createTestDatabase('records');
  dataSource = await connectedDataSource(database.url);
  store = await storeOver(dataSource);
  await store.start?.();
});

afterAll(async () => {
  await store.stop?.();
  await dataSource.destroy();
  await database.drop();
});

/** The row, and where and by which transactions it was written, locked or removed. */
async function row(recordKey: string): Promise<Record<string, unknown> | undefined> {
  const [found] = (await dataSource.query(
    `SELECT *, ctid, xmin::text AS xmin, xmax::text AS xmax FROM idempotency_records WHERE record_key = $1`,
    [Buffer.from(recordKey, 'base64url')],
  )) as (Record<string, unknown> | undefined)[];
  return found;
}

it('answers replays, conflicts and reused keys by reading alone: no row lock, no new version', async () => {
  const running = request();
  await store.claim(running);
  const done = request();
  await store.claim(done);
  await store.complete(done, answer(), HOUR_MS);
  const before = [await row(running.recordKey), await row(done.recordKey)];
  for (let round = 0; round < 5; round += 1) {
    expect((await store.claim(running)).kind).toBe('claimed');
    expect((await store.claim(request({ recordKey: running.recordKey }))).kind).toBe('in_progress');
    expect((await store.claim(request({ recordKey: done.recordKey }))).kind).toBe('completed');
    expect((await store.claim(request({ recordKey: done.recordKey, fingerprint: 'other' }))).kind).toBe('reused');
  }
  expect([await row(running.recordKey), await row(done.recordKey)]).toEqual(before);
});

it('puts a record back as it was, to the last column, when a claim is given back', async () => {
  const lives: Record<string, (own: ReturnType<typeof request>) => Promise<unknown>> = {
    released: (own) => store.release(own, { began: true }),
    abandoned: (own) => store.abandon(own, { began: true }),
  };
  for (const [state, live] of Object.entries(lives)) {
    for (const fingerprint of ['fingerprint', 'another']) {
      const own = request({ keepAbandoned: false });
      await store.claim(own);
      await live(own);
      const before = await row(own.recordKey);
      const next = request({
        ...{ recordKey: own.recordKey, takeOver: true, retentionMs: 5 },
        ...{ operation: 'another', fingerprint: state === 'released' ? fingerprint : own.fingerprint },
      });
      expect((await store.claim(next)).kind).toBe('claimed');
      expect(await store.release(next, { began: false })).toBe('written');
      const { ctid: _ctid, xmin: _xmin, xmax: _xmax, ...after } = (await row(own.recordKey))!;
      expect({ ...before, given_back_token: next.claimToken }).toMatchObject(after);
      expect(await store.release(next, { began: false })).toBe('written');
      expect(await store.release(request({ recordKey: own.recordKey }), { began: false })).toBe('lost');
    }
  }
});

it('gives back twice, or after a resolution, without harm', async () => {
  const own = request();
  await store.claim(own);
  expect(await store.release(own, { began: false })).toBe('written');
  expect(await store.release(own, { began: false })).toBe('written');
  expect(await store.find(own.recordKey)).toBeUndefined();
  expect(await store.forget(own.recordKey)).toBe(false);

  const settled = request();
  await store.claim(settled);
  await store.abandon(settled, { began: true });
  await store.resolve(settled.recordKey, { kind: 'completed', answer: answer('by hand') }, HOUR_MS);
  for (const late of [
    () => store.complete(settled, answer('late'), HOUR_MS),
    () => store.abandon(settled, { began: true }),
    () => store.release(settled, { began: false }),
    () => store.release(settled, { began: true }),
  ]) {
    expect(await late()).toBe('lost');
  }
  const { answer: kept } = (await store.find(settled.recordKey))!;
  expect(kept?.kept === true && Buffer.from(kept.body).toString()).toBe('by hand');
});

it('keeps every kind of answer', async () => {
  const headers = [['content-type', 'text/event-stream']] as const;
  const answers: RecordedAnswer[] = [
    { kept: true, status: null, headers: [['x-odd', '\u0000\ud800']], body: new Uint8Array([0, 255]) },
    { kept: false, status: null, reason: 'not_serialisable' },
    { kept: 'stream', status: 200, headers, end: 'truncated', items: 12_345 },
  ];
  for (const each of answers) {
    const own = request();
    await store.claim(own);
    await store.complete(own, each, HOUR_MS);
    expect((await store.find(own.recordKey))?.answer).toEqual(each);
  }
});

it('takes any text for a key, and keeps keys apart that decode to the same bytes', async () => {
  const keys = [`${'a'.repeat(42)}a`, `${'a'.repeat(42)}b`, 'short', 'short=', '', "'; DROP TABLE x; --", 'ä\u0000'];
  for (const recordKey of keys) expect((await store.claim(request({ recordKey }))).kind).toBe('claimed');
  for (const recordKey of keys) expect(await store.find(recordKey)).toMatchObject({ recordKey, attempt: 1 });
});

it('makes its writes durable where the database would not, and leaves a stronger setting alone', async () => {
  const { claim } = batchesSql(quoteTables(tablesInDataSource(dataSource, 'idempotency_records', undefined)));
  const item = (own: ReturnType<typeof request>): ClaimItem => ({
    ...{ key: Buffer.from(own.recordKey, 'base64url'), request: own, recordId: own.claimToken },
  });
  for (const [setting, expected] of [
    ['off', 'on'],
    ['local', 'local'],
    ['remote_apply', 'remote_apply'],
  ]) {
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query(`SET LOCAL synchronous_commit = ${setting}`);
    await runner.query(claim.text, [...claimValues([item(request())])]);
    expect(await runner.query('SHOW synchronous_commit')).toEqual([{ synchronous_commit: expected }]);
    await runner.rollbackTransaction();
    await runner.release();
  }
});

it('purges round a row that somebody holds', async () => {
  const over = [request(), request(), request()];
  for (const own of over) {
    await store.claim(own);
    await store.complete(own, answer(), 1);
  }
  const runner = dataSource.createQueryRunner();
  await runner.startTransaction();
  await runner.query('SELECT FROM idempotency_records WHERE record_key = $1 FOR UPDATE', [
    Buffer.from(over[1]!.recordKey, 'base64url'),
  ]);
  await store.purge(1_000);
  expect(await Promise.all(over.map(async ({ recordKey }) => (await row(recordKey)) !== undefined))).toEqual([
    ...[false, true, false],
  ]);
  await runner.rollbackTransaction();
  await runner.release();
  await store.purge(1_000);
  expect(await row(over[1]!.recordKey)).toBeUndefined();
});

it('finds what it reads and removes by indexes, however much else there is', async () => {
  await dataSource.query(`INSERT INTO idempotency_records (record_key, record_id, operation, fingerprint, state, fencing_token,
      attempt, created_at, claimed_at, lease_until, expires_at, purge_after, retention_ms, keep_abandoned)
    SELECT sha256(i::text::bytea), gen_random_uuid(), 'o', 'f', 'completed', i, 1, now(), now(), now(),
      now() + (i - 10) * interval '1 minute', now() + (i - 20) * interval '1 minute', 1, true FROM generate_series(1, 20000) i`);
  await dataSource.query(`INSERT INTO idempotency_records_events
    SELECT gen_random_uuid(), seq, ARRAY[5], 'token'::bytea FROM generate_series(1, 20000), generate_series(1, 3) seq`);
  await dataSource.query(`INSERT INTO idempotency_records_steps
    SELECT gen_random_uuid(), sha256(i::text::bytea), 'n', '1'::bytea FROM generate_series(1, 20000) i`);
  await dataSource.query('ANALYZE idempotency_records, idempotency_records_events, idempotency_records_steps');
  const tables = quoteTables(tablesInDataSource(dataSource, 'idempotency_records', undefined));
  const { purge, forget } = postgresSql(tables);
  const plan = async ({ text }: Statement, ...values: string[]): Promise<string> => {
    const filled = values.reduce((sql, value, index) => sql.replaceAll(`$${index + 1}`, value), text);
    return JSON.stringify(await dataSource.query(`EXPLAIN ${filled}`));
  };
  expect(await plan(purge, '500', '1', '20000')).toMatch(/Index Scan using .{0,4}IDX_d207af85c702f6caac45e51e0a/);
  const { read, sweep } = logsSql(tables);
  const key = "'\\\\x00'";
  const plans = [
    await plan(purge, '500', '1', '20000'),
    await plan(forget, key),
    await plan(sweep, key),
    await plan(read, key, "''", '1', '0', '1000'),
  ];
  for (const each of plans) expect(each).not.toMatch(/Seq Scan/);
  expect(await store.purge(4)).toBe(4);
  expect(await store.purge(500)).toBeGreaterThanOrEqual(5);
});
