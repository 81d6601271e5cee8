import { randomBytes } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { IdempotencyStoreError } from '../../lib/core/errors.js';
import type { RecordedAnswer } from '../../lib/core/record.js';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { createTestDatabase, isolatedPostgres, type TestDatabase } from '../support/postgres.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';
import { timed, until } from './waiting.js';

type Request = ReturnType<typeof request>;

const many = <T>(n: number, make: (index: number) => T): T[] => Array.from({ length: n }, (_, index) => make(index));

/** Bytes as text, which is compared quickly. */
function asText(kept: RecordedAnswer | false): unknown {
  return kept && kept.kept === true ? { ...kept, body: Buffer.from(kept.body).toString('base64') } : kept;
}

describe('what waits at the same moment', () => {
  let server: Awaited<ReturnType<typeof isolatedPostgres>>;
  let dataSource: DataSource;
  let store: IdempotencyStore;

  beforeAll(async () => {
    server = await isolatedPostgres({ shared_preload_libraries: 'pg_stat_statements' });
    dataSource = await connectedDataSource(server.url);
    await dataSource.query('CREATE EXTENSION pg_stat_statements');
    store = await storeOver(dataSource, { deadline: '20s' });
    await store.start?.();
  });

  beforeEach(async () => void (await dataSource.query('SELECT pg_stat_statements_reset()')));

  afterAll(async () => {
    await store.stop?.();
    await dataSource.destroy();
    await server.stop();
  });

  /** How many claims and completions the server has seen, as statements. */
  async function statements(): Promise<{ claims: number; completions: number }> {
    const [row] = (await dataSource.query(
      `SELECT COALESCE(sum(calls) FILTER (WHERE query LIKE '%WITH moment%'), 0)::integer AS claims,
        COALESCE(sum(calls) FILTER (WHERE query LIKE 'UPDATE%completed_at = clock_timestamp()%'), 0)::integer AS completions
       FROM pg_stat_statements WHERE query NOT LIKE '%FROM pg_stat_statements%'`,
    )) as [{ claims: number; completions: number }];
    return row;
  }

  async function appends(): Promise<number> {
    const [row] = (await dataSource.query(
      `SELECT sum(calls)::integer AS appends FROM pg_stat_statements WHERE query LIKE 'WITH held%' AND query LIKE '%stream_tail = w.last_seq%'`,
    )) as [{ appends: number }];
    return row.appends;
  }

  it('is one statement: 200 claims are four, and 200 completions', async () => {
    const requests = many(200, () => request());
    const claims = await Promise.all(requests.map((own) => store.claim(own)));
    for (const [index, result] of claims.entries()) {
      const { claimToken, recordKey } = requests[index]!;
      expect(result).toMatchObject({ kind: 'claimed', claim: { claimToken, recordKey, attempt: 1 } });
    }
    const written = await Promise.all(requests.map((own, index) => store.complete(own, answer(`${index}`), HOUR_MS)));
    expect(new Set(written)).toEqual(new Set(['written']));
    expect(await statements()).toEqual({ claims: 4, completions: 4 });
    const views = await Promise.all(requests.map(({ recordKey }) => store.find(recordKey)));
    expect(views.map((view) => view?.answer?.kept === true && Buffer.from(view.answer.body).toString())).toEqual(
      many(200, String),
    );
  });

  it('is one statement each at low load: what comes alone goes alone', async () => {
    for (let round = 0; round < 10; round += 1) {
      const own = request();
      await store.claim(own);
      await store.complete(own, answer(), HOUR_MS);
    }
    expect(await statements()).toEqual({ claims: 10, completions: 10 });
  });

  it('gathers while others are under way', async () => {
    const loops = many(64, async () => {
      for (let round = 0; round < 10; round += 1) {
        const own = request();
        expect((await store.claim(own)).kind).toBe('claimed');
        expect(await store.complete(own, answer(), HOUR_MS)).toBe('written');
      }
    });
    await Promise.all(loops);
    const { claims, completions } = await statements();
    expect(claims).toBeLessThan(640 / 4);
    expect(completions).toBeLessThan(640 / 4);
  });

  it('appends of different streams are one statement; those of one stream are not, and keep their order', async () => {
    const log = store.events!;
    const owns = many(60, () => request());
    await Promise.all(owns.map((own) => store.claim(own)));
    const item = (text: string): Uint8Array[] => [Buffer.from(text), Buffer.from('')];
    const append = (own: Request, index: number, firstSeq: number): Promise<string> => {
      const head = firstSeq === 1 ? { head: { status: 200, headers: [] } } : {};
      return log.append(own, { firstSeq, items: item(`${index} from ${firstSeq}`), ...head }, 60_000);
    };
    for (const firstSeq of [1, 3, 5]) {
      const results = await Promise.all(owns.map((own, index) => append(own, index, firstSeq)));
      expect(new Set(results)).toEqual(new Set(['written']));
    }
    expect(await appends()).toBe(3);
    // Sent again, beside others and itself, as after lost replies; and one that would leave a gap.
    const results = await Promise.all([
      ...owns.flatMap((own, index) => [append(own, index, 5), append(own, index, 5)]),
      append(owns[0]!, 0, 50),
    ]);
    expect(results).toEqual([...many(120, () => 'written'), 'lost']);
    for (const [index, own] of owns.entries()) {
      const { recordId, attempt } = (await store.find(own.recordKey))!;
      const page = await log.read({ recordKey: own.recordKey, recordId, attempt }, 0, 1_000_000);
      const texts = page!.items.map(({ seq, bytes }) => [seq, Buffer.from(bytes).toString()]);
      expect(texts).toEqual([1, 3, 5].flatMap((seq) => [...[[seq, `${index} from ${seq}`]], [seq + 1, '']]));
    }
  });

  it('is planned once for statements of any size', async () => {
    const narrow = await storeOver(dataSource, { poolSize: 1, notify: false });
    for (let size = 1; size <= 24; size += 1) {
      const requests = many(size, () => request());
      await Promise.all(requests.map((own) => narrow.claim(own)));
      await Promise.all(requests.map((own) => narrow.complete(own, answer(), HOUR_MS)));
    }
    const { pool } = (narrow as unknown as { calls: { pool: import('pg').Pool } }).calls;
    const { rows } = await pool.query<{ generic_plans: string; custom_plans: string }>(
      'SELECT generic_plans, custom_plans FROM pg_prepared_statements',
    );
    expect(rows).toHaveLength(2);
    for (const { generic_plans, custom_plans } of rows) expect([generic_plans, custom_plans]).toEqual(['19', '5']);
    await narrow.stop?.();
  });
});

describe('in one statement', () => {
  let database: TestDatabase;
  let dataSource: DataSource;
  let store: IdempotencyStore;

  beforeAll(async () => {
    database = await createTestDatabase('batches');
    dataSource = await connectedDataSource(database.url);
    // One statement at a time, so that all that is asked at once goes together.
    store = await storeOver(dataSource, { deadline: '5s', poolSize: 1 });
    await store.start?.();
  });

  afterAll(async () => {
    await store.stop?.();
    await dataSource.destroy();
    await database.drop();
  });

  it('two claims of one key are decided as if one came after the other', async () => {
    const firsts = many(20, () => request());
    const pairs = firsts.map((first, index) => {
      const { recordKey } = first;
      if (index % 3 === 0) return { first, second: first, says: 'claimed' };
      if (index % 3 === 1) return { first, second: request({ recordKey }), says: 'in_progress' };
      return { first, second: request({ recordKey, fingerprint: 'other' }), says: 'reused' };
    });
    const results = await Promise.all(
      pairs.map(({ first, second }) => Promise.all([store.claim(first), store.claim(second)])),
    );
    for (const [index, [first, second]] of results.entries()) {
      expect(first).toMatchObject({ kind: 'claimed', claim: { attempt: 1 } });
      expect(second.kind).toBe(pairs[index]!.says);
      if (second.kind === 'claimed') expect(second).toEqual(first);
    }
  });

  it('a claim that may not take an abandoned record over does not keep one from it that may', async () => {
    const own = request();
    const { recordKey } = own;
    await store.claim(own);
    await store.abandon(own, { began: true });
    const results = await Promise.all([
      store.claim(request({ recordKey })),
      store.claim(request({ recordKey, fingerprint: 'other', takeOver: true })),
      store.claim(request({ recordKey, takeOver: true })),
      store.claim(request({ recordKey, takeOver: true })),
    ]);
    expect(results.map(({ kind }) => kind)).toEqual(['abandoned', 'reused', 'claimed', 'in_progress']);
  });

  it('each keeps its own options', async () => {
    const requests = many(24, (index) =>
      request({
        operation: `POST /${index}`,
        leaseMs: 60_000 + (index % 2) * 600_000,
        retentionMs: HOUR_MS * (1 + (index % 3)),
        ...{ keepAbandoned: index % 4 === 0, takeOver: index % 5 === 0 || (index % 7 === 0 && 'unless_kept') },
      }),
    );
    await Promise.all(requests.map((own) => store.claim(own)));
    for (const own of requests) {
      const view = (await store.find(own.recordKey))!;
      expect(view.operation).toBe(own.operation);
      const lease = view.leaseUntil.getTime() - view.claimedAt.getTime();
      expect(Math.abs(lease - own.leaseMs)).toBeLessThan(2_000);
    }
    await Promise.all(requests.map((own) => store.abandon(own, { began: true })));
    for (const { recordKey, keepAbandoned, retentionMs } of requests) {
      const { expiresAt } = (await store.find(recordKey))!;
      if (keepAbandoned) expect(expiresAt).toBeUndefined();
      else expect(Math.abs(expiresAt!.getTime() - Date.now() - retentionMs)).toBeLessThan(60_000);
    }
  });

  it('each keeps its own answer, of every kind and size', async () => {
    const headers = [['content-type', 'text/event-stream']] as const;
    const answers = many(40, (index): RecordedAnswer => {
      if (index % 4 === 0) return { kept: false, status: 201, reason: 'too_large' };
      if (index % 4 === 1) return { kept: 'stream', status: 200, headers, end: 'truncated', items: index };
      if (index % 4 === 2)
        return { kept: true, status: null, headers: [['x-odd', '\u0000"{},\\\ud800']], body: new Uint8Array() };
      return {
        kept: true,
        status: 200,
        headers,
        body: randomBytes(index * 3_000),
      };
    });
    const requests = answers.map(() => request());
    await Promise.all(requests.map((own) => store.claim(own)));
    await Promise.all(requests.map((own, index) => store.complete(own, answers[index]!, HOUR_MS)));
    for (const [index, { recordKey }] of requests.entries()) {
      const replay = await store.claim(request({ recordKey }));
      const kept = replay.kind === 'completed' && replay.record.answer;
      expect(asText(kept)).toEqual(asText(answers[index]!));
    }
  });

  it('completions under an old claim are lost, and those beside them are written', async () => {
    const olds = many(10, () => request({ takeOver: true }));
    await Promise.all(olds.map((own) => store.claim(own)));
    await Promise.all(olds.map((own) => store.abandon(own, { began: true })));
    const news = olds.map(({ recordKey }) => request({ recordKey, takeOver: true }));
    for (const { kind } of await Promise.all(news.map((own) => store.claim(own)))) expect(kind).toBe('claimed');
    const results = await Promise.all(
      [...olds, ...news].map((own) => store.complete(own, answer(own.claimToken), HOUR_MS)),
    );
    expect(results).toEqual([...olds.map(() => 'lost'), ...news.map(() => 'written')]);
    for (const own of news) expect((await store.find(own.recordKey))?.answer).toEqual(answer(own.claimToken));
  });

  it('one bad row fails alone', async () => {
    const requests = many(30, (index) => request(index === 13 ? { fingerprint: 'cannot be \u0000 kept' } : {}));
    const claims = await Promise.allSettled(requests.map((own) => store.claim(own)));
    for (const [index, claim] of claims.entries()) {
      if (index === 13) expect(claim).toMatchObject({ reason: expect.any(IdempotencyStoreError) as unknown });
      else expect(claim).toMatchObject({ value: { kind: 'claimed', claim: { attempt: 1 } } });
    }
    const good = requests.filter((_, index) => index !== 13);
    const outOfRange = { ...answer(), status: 99_999 };
    const written = await Promise.allSettled(
      good.map((own, index) => store.complete(own, index === 7 ? outOfRange : answer(), HOUR_MS)),
    );
    for (const [index, each] of written.entries()) {
      if (index === 7) expect(each).toMatchObject({ reason: expect.any(IdempotencyStoreError) as unknown });
      else expect(each).toMatchObject({ value: 'written' });
    }
    expect((await store.find(good[7]!.recordKey))?.state).toBe('in_progress');
  });

  it('a row that somebody holds keeps itself waiting, and nobody else', async () => {
    const held = request();
    await store.claim(held);
    await store.release(held, { began: true });
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query('SELECT FROM idempotency_records WHERE operation = $1 FOR UPDATE', [held.operation]);
    const wide = await storeOver(dataSource, { deadline: '3s' });
    const waiting = timed(() => wide.claim(request({ recordKey: held.recordKey })));
    const others = await Promise.all(many(20, () => timed(() => wide.claim(request()))));
    for (const { value, ms } of others) expect([value?.kind, ms < 2_500]).toEqual(['claimed', true]);
    expect((await wide.claim(request())).kind).toBe('claimed');
    // It has the time that its deadline leaves: the row becomes free, and it is answered.
    await runner.rollbackTransaction();
    await runner.release();
    expect((await waiting).value).toMatchObject({ kind: 'claimed', claim: { attempt: 2 } });
    await wide.stop?.();
  });

  it('no table is so small that all of it is read', async () => {
    const { batchesSql } = await import('../../lib/stores/typeorm/batches.sql.js');
    const { quoteTables, tablesInDataSource } = await import('../../lib/stores/typeorm/table-name.js');
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    const { logsSql } = await import('../../lib/stores/typeorm/logs.sql.js');
    const tables = quoteTables(tablesInDataSource(dataSource, 'idempotency_records', undefined));
    const { claim, complete } = batchesSql(tables);
    const { append } = logsSql(tables);
    await runner.query('SET LOCAL plan_cache_mode = force_generic_plan');
    await runner.query('DELETE FROM idempotency_records');
    for (const rows of [2, 50, 500]) {
      await runner.query(
        `INSERT INTO idempotency_records (record_key, record_id, operation, fingerprint, state, fencing_token,
          attempt, created_at, claimed_at, lease_until, retention_ms, keep_abandoned)
        SELECT sha256(i::text::bytea), gen_random_uuid(), 'o', 'f', 'completed', i, 1, now(), now(), now(), 1, true
        FROM generate_series(1, $1::integer) i ON CONFLICT DO NOTHING`,
        [rows],
      );
      await runner.query('ANALYZE idempotency_records');
      for (const { what, text } of [claim, complete, append]) {
        const parameters = Math.max(...[...text.matchAll(/\$(\d+)/g)].map(([, number]) => Number(number)));
        await runner.query(`PREPARE small AS ${text}`);
        const plan = JSON.stringify(
          await runner.query(`EXPLAIN EXECUTE small (${many(parameters, () => 'NULL').join(', ')})`),
        );
        expect([what, /Seq Scan on idempotency_records/.test(plan)]).toEqual([what, false]);
        expect(plan).toMatch(/Index Scan (using|on) .{0,4}PK_/);
        await runner.query('DEALLOCATE small');
      }
    }
    await runner.rollbackTransaction();
    await runner.release();
  });
});

describe('on a bad network', () => {
  const DEADLINE_MS = 600;
  let database: TestDatabase;
  let proxy: TcpProxy;
  let dataSource: DataSource;
  let store: IdempotencyStore;

  beforeAll(async () => {
    database = await createTestDatabase('batches, network');
    proxy = await startProxy(Number(new URL(database.url).port));
    const url = new URL(database.url);
    url.port = String(proxy.port);
    dataSource = await connectedDataSource(url.href, { poolErrorHandler: () => undefined });
    store = await storeOver(dataSource, { deadline: DEADLINE_MS, notify: false, poolSize: 2 });
    await store.start?.();
  });

  afterAll(async () => {
    await store.stop?.();
    proxy.cutAll();
    await dataSource.destroy().catch(() => undefined);
    await proxy.close();
    await database.drop();
  });

  it('a statement whose reply is lost is sent again, and everybody in it finds what it had done', async () => {
    for (let round = 0; round < 5; round += 1) {
      const requests = many(50, () => request());
      proxy.dropReplies(1);
      const claims = await Promise.all(requests.map((own) => store.claim(own)));
      for (const claim of claims) expect(claim).toMatchObject({ kind: 'claimed', claim: { attempt: 1 } });
      proxy.dropReplies(1);
      const written = await Promise.all(requests.map((own) => store.complete(own, answer(), HOUR_MS)));
      expect(written).toEqual(requests.map(() => 'written'));
    }
  });

  it('each has its own deadline, and one that has given up is not sent any more', async () => {
    await store.claim(request());
    proxy.blackhole(true);
    const calls: { own: Request; done: ReturnType<typeof timed> }[] = [];
    for (let index = 0; index < 30; index += 1) {
      const own = request();
      calls.push({ own, done: timed(() => store.claim(own)) });
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    for (const { done } of calls) {
      const { ms, error } = await done;
      expect(error).toBeInstanceOf(IdempotencyStoreError);
      expect(ms).toBeLessThan(DEADLINE_MS + 150);
    }
    proxy.blackhole(false);
    await until('the store works again', async () => (await timed(() => store.claim(request()))).value !== undefined);
    // All but those that were under way when the network went.
    const found = await Promise.all(calls.slice(4).map(({ own }) => store.find(own.recordKey)));
    expect(found.filter((view) => view !== undefined)).toEqual([]);
  });
});
