import type { DataSource } from 'typeorm';
import { IdempotencyStoreError } from '../../lib/core/errors.js';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { createTestDatabase, isolatedPostgres, type TestDatabase } from '../support/postgres.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';
import { timed, until } from './waiting.js';

const DEADLINE_MS = 400;
const SLACK_MS = 100;

const storesOwnSessions = `application_name = 'idempotency' AND datname = current_database()`;

/** All calls of the port that reach the server. */
function allCalls(store: IdempotencyStore): Record<string, () => Promise<unknown>> {
  const claim = request();
  const head = { status: 200, headers: [] };
  return {
    claim: () => store.claim(claim),
    renew: () => store.renew(claim, 1_000),
    complete: () => store.complete(claim, answer(), 1_000),
    release: () => store.release(claim, { began: true }),
    'give back': () => store.release(claim, { began: false }),
    abandon: () => store.abandon(claim, { began: true }),
    find: () => store.find(claim.recordKey),
    resolve: () => store.resolve(claim.recordKey, { kind: 'rerun' }, 1_000),
    forget: () => store.forget(claim.recordKey),
    purge: () => store.purge(10),
    append: () => store.events!.append(claim, { firstSeq: 1, items: [new Uint8Array(1)], head }, 1_000),
    read: () => store.events!.read({ ...claim, recordId: claim.claimToken, attempt: 1 }, 0, 1_000),
    'save a step': () => store.steps!.save(claim, 'step', new Uint8Array(1), 1_000),
    'load the steps': () => store.steps!.load(claim),
    'request the cancellation': () => store.requestCancel!(claim.recordKey),
  };
}

/** Every call fails, as the port says, and in time. */
async function expectDown(store: IdempotencyStore, withinMs = DEADLINE_MS + SLACK_MS): Promise<void> {
  const outcomes = await Promise.all(
    Object.entries(allCalls(store)).map(async ([name, call]) => [name, await timed(call)] as const),
  );
  for (const [name, { ms, error }] of outcomes) {
    expect([name, error]).toEqual([name, expect.any(IdempotencyStoreError)]);
    expect([name, ms < withinMs, ms]).toEqual([name, true, ms]);
  }
}

async function works(store: IdempotencyStore): Promise<boolean> {
  const { value } = await timed(() => store.claim(request()));
  return value?.kind === 'claimed';
}

/** Opens all of the store's connections, so that a fault finds them idle. */
async function warm(store: IdempotencyStore): Promise<void> {
  await Promise.all(Array.from({ length: 16 }, () => store.find(request().recordKey)));
}

const unhandled: unknown[] = [];
const note = (error: unknown): void => void unhandled.push(error);
beforeAll(() => {
  process.on('unhandledRejection', note);
  process.on('uncaughtException', note);
});
afterAll(() => {
  process.off('unhandledRejection', note);
  process.off('uncaughtException', note);
});
afterEach(() => expect(unhandled.splice(0)).toEqual([]));

describe('a network between store and server', () => {
  let database: TestDatabase;
  let direct: DataSource;
  let proxy: TcpProxy;
  let dataSource: DataSource;
  let store: IdempotencyStore;

  beforeAll(async () => {
    database = await createTestDatabase('failures');
    direct = await connectedDataSource(database.url);
  });

  afterAll(async () => {
    await direct.destroy();
    await database.drop();
  });

  beforeEach(async () => {
    proxy = await startProxy(Number(new URL(database.url).port));
    const url = new URL(database.url);
    url.port = String(proxy.port);
    // DataSource errors are its own matter here: the proxy hits its pool as well.
    dataSource = await connectedDataSource(url.href, { poolErrorHandler: () => undefined });
    // Without hints, whose statements would come between and take a fault that is meant for another.
    store = await storeOver(dataSource, { deadline: DEADLINE_MS, notify: false });
    await store.start?.();
  });

  afterEach(async () => {
    await store.stop?.();
    proxy.cutAll();
    await dataSource.destroy().catch(() => undefined);
    await proxy.close();
  });

  it('that swallows everything: each call fails within its deadline, and the store recovers by itself', async () => {
    await warm(store);
    proxy.blackhole(true);
    await expectDown(store);
    await expectDown(store);
    proxy.blackhole(false);
    await until('the store works again', () => works(store), 2_000);
  });

  it('that resets connections in use and idle ones: the calls are made again and succeed', async () => {
    const patient = await storeOver(dataSource, { deadline: '10s' });
    await warm(patient);
    proxy.delay(30);
    const claims = Array.from({ length: 8 }, () => patient.claim(request()));
    await until('they are under way', async () => {
      const [row] = (await direct.query(
        `SELECT count(*)::integer AS sessions FROM pg_stat_activity WHERE ${storesOwnSessions}`,
      )) as [{ sessions: number }];
      return row.sessions >= 4;
    });
    proxy.cutAll();
    for (const { kind } of await Promise.all(claims)) expect(kind).toBe('claimed');
    await patient.stop?.();
  });

  it('that refuses new connections: the failure comes at once, not after the deadline', async () => {
    await proxy.refuse(true);
    proxy.cutAll();
    await until('the broken connections are known', async () => (await timed(() => store.find('A'))).ms < 50);
    await expectDown(store, 150);
    await proxy.refuse(false);
    await until('the store works again', () => works(store), 2_000);
  });

  it('that loses replies: a claim finds itself, and so does every write', async () => {
    for (let round = 0; round < 10; round += 1) {
      const own = request();
      proxy.dropReplies(1);
      const result = await store.claim(own);
      expect(result).toMatchObject({ kind: 'claimed', claim: { attempt: 1, claimToken: own.claimToken } });
      proxy.dropReplies(1);
      expect(await store.renew(own, 60_000)).toBe('written');
      proxy.dropReplies(1);
      if (round % 4 === 0) expect(await store.complete(own, answer(), HOUR_MS)).toBe('written');
      else if (round % 4 === 1) expect(await store.release(own, { began: true })).toBe('written');
      else if (round % 4 === 2) expect(await store.release(own, { began: false })).toBe('written');
      else expect(await store.abandon(own, { began: true })).toBe('written');
      const state = (await store.find(own.recordKey))?.state;
      expect(state).toBe(['completed', 'released', undefined, 'abandoned'][round % 4]);
    }
  });

  it('that loses every reply: the claim fails in time; it was made, and its token gives it back later', async () => {
    const own = request();
    proxy.dropReplies(true);
    const { ms, error } = await timed(() => store.claim(own));
    expect(error).toBeInstanceOf(IdempotencyStoreError);
    expect(ms).toBeLessThan(DEADLINE_MS + SLACK_MS);
    proxy.dropReplies(false);
    expect((await store.find(own.recordKey))?.state).toBe('in_progress');
    expect(await store.release(own, { began: false })).toBe('written');
    expect(await store.find(own.recordKey)).toBeUndefined();
  });

  it('that loses the reply of what must not be repeated: it is not, and fails', async () => {
    const own = request();
    await store.claim(own);
    await store.abandon(own, { began: true });
    proxy.dropReplies(1);
    await expect(store.resolve(own.recordKey, { kind: 'rerun' }, 1_000)).rejects.toBeInstanceOf(IdempotencyStoreError);
    expect((await store.find(own.recordKey))?.state).toBe('released');
    proxy.dropReplies(1);
    await expect(store.forget(own.recordKey)).rejects.toBeInstanceOf(IdempotencyStoreError);
    expect(await store.find(own.recordKey)).toBeUndefined();
  });

  it('that is slow and sends byte by byte: answers come as they are', async () => {
    proxy.slice(100);
    proxy.delay(5);
    const own = request();
    expect((await store.claim(own)).kind).toBe('claimed');
    expect(await store.complete(own, answer('ä'.repeat(50)), HOUR_MS)).toBe('written');
    const again = await store.claim(request({ recordKey: own.recordKey }));
    expect(again.kind === 'completed' && again.record.answer).toEqual({
      ...answer(),
      body: new Uint8Array(Buffer.from('ä'.repeat(50))),
    });
  });

  it('a row that somebody holds: the claim fails in time, others are not held up', async () => {
    const own = request();
    await store.claim(own);
    await store.release(own, { began: true });
    const runner = direct.createQueryRunner();
    await runner.startTransaction();
    await runner.query('SELECT FROM idempotency_records WHERE operation = $1 FOR UPDATE', [own.operation]);
    const { ms, error } = await timed(() => store.claim(request({ recordKey: own.recordKey })));
    expect(error).toBeInstanceOf(IdempotencyStoreError);
    expect(ms).toBeLessThan(DEADLINE_MS + SLACK_MS);
    expect((await store.claim(request())).kind).toBe('claimed');
    await runner.rollbackTransaction();
    await runner.release();
  });
});

describe('a server whose operator ends connections', () => {
  it('ends a few calls, which go on over others', async () => {
    const database = await createTestDatabase('failures, operator');
    const dataSource = await connectedDataSource(database.url);
    const store = await storeOver(dataSource);
    await warm(store);
    for (let round = 0; round < 5; round += 1) {
      const claims = Array.from({ length: 8 }, () => store.claim(request()));
      await dataSource.query(
        `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE ${storesOwnSessions}`,
      );
      for (const { kind } of await Promise.all(claims)) expect(kind).toBe('claimed');
    }
    await store.stop?.();
    await dataSource.destroy();
    await database.drop();
  });
});

describe('a server that freezes', () => {
  it('holds nobody longer than the deadline, and is used again when it goes on', async () => {
    const server = await isolatedPostgres();
    const dataSource = await connectedDataSource(server.url);
    const store = await storeOver(dataSource, { deadline: DEADLINE_MS });
    await store.start?.();
    await warm(store);
    await server.pause();
    await expectDown(store);
    await expectDown(store);
    // More calls than connections: those that wait for one must not wait longer.
    const many = await Promise.all(Array.from({ length: 50 }, () => timed(() => store.claim(request()))));
    for (const { ms, error } of many) {
      expect(error).toBeInstanceOf(IdempotencyStoreError);
      expect(ms).toBeLessThan(DEADLINE_MS + SLACK_MS);
    }
    await server.resume();
    await until('the store works again', () => works(store), 5_000);
    await store.stop?.();
    await dataSource.destroy();
    await server.stop();
  });
});

describe('connections that have died without a word, as behind a firewall that forgot them', () => {
  it('cost one call; the next ones use new connections', async () => {
    const server = await isolatedPostgres({ io_method: 'sync' });
    const dataSource = await connectedDataSource(server.url);
    const store = await storeOver(dataSource, { deadline: DEADLINE_MS, notify: false });
    await store.start?.();
    await warm(store);
    // The backends of all open connections stay frozen; the server itself takes new ones.
    await server.pause();
    process.kill(server.pid, 'SIGCONT');
    await expect(store.claim(request())).rejects.toBeInstanceOf(IdempotencyStoreError);
    for (let call = 0; call < 4; call += 1) expect((await store.claim(request())).kind).toBe('claimed');
    await server.resume();
    await store.stop?.();
    await dataSource.destroy();
    await server.stop();
  });
});

describe('a server that is killed', () => {
  it('has lost no acknowledged claim and no answer, though the database wants commits to be quick', async () => {
    const server = await isolatedPostgres({ synchronous_commit: 'off', wal_writer_delay: '10s' });
    const dataSource = await connectedDataSource(server.url, { poolErrorHandler: () => undefined });
    const store = await storeOver(dataSource, { deadline: '5s' });
    await store.start?.();
    let acknowledged = 0;
    for (let round = 0; round < 2; round += 1) {
      const claimed: string[] = [];
      const completed: string[] = [];
      let down = false;
      const work = Array.from({ length: 8 }, async () => {
        while (!down) {
          const own = request();
          try {
            await store.claim(own);
            claimed.push(own.recordKey);
            await store.complete(own, answer(), HOUR_MS);
            completed.push(own.recordKey);
          } catch {
            // What failed was not acknowledged.
          }
        }
      });
      await until('there is something to lose', () => completed.length >= 200, 60_000);
      await server.kill();
      down = true;
      await Promise.all(work);
      await server.restart();
      await until('the store works again', () => works(store), 10_000);
      const rows = (await dataSource.query(
        `SELECT encode(record_key, 'hex') AS key, state FROM idempotency_records`,
      )) as { key: string; state: string }[];
      const states = new Map(rows.map(({ key, state }) => [Buffer.from(key, 'hex').toString('base64url'), state]));
      expect(claimed.filter((key) => !states.has(key))).toEqual([]);
      expect(completed.filter((key) => states.get(key) !== 'completed')).toEqual([]);
      acknowledged += claimed.length + completed.length;
    }
    expect(acknowledged).toBeGreaterThanOrEqual(800);
    await store.stop?.();
    await dataSource.destroy().catch(() => undefined);
    await server.stop();
  }, 120_000);
});
