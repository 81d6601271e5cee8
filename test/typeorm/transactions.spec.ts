import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource, EntityManager } from 'typeorm';
import { IdempotencyStoreError } from '../../lib/core/errors.js';
import type { IdempotencyStore } from '../../lib/core/store.js';
import type { StoreTransaction } from '../../lib/core/transactions.js';
import type { TypeormStoreOptions } from '../../lib/stores/typeorm/index.js';
import { createTestDatabase, isolatedPostgres, type TestDatabase } from '../support/postgres.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';
import { timed, until } from './waiting.js';

const DEADLINE_MS = 500;
const SLACK_MS = 300;

let database: TestDatabase;
let dataSource: DataSource;
let store: IdempotencyStore;
let watcher: DataSource;
let other: IdempotencyStore;

beforeAll(async () => {
  database = await createTestDatabase('transactions');
  dataSource = await connectedDataSource(database.url, { poolErrorHandler: () => undefined });
  watcher = await connectedDataSource(database.url);
  await watcher.query('CREATE TABLE effects (key text NOT NULL)');
  store = await started(dataSource);
  other = await started(watcher);
});

afterAll(async () => {
  await store.stop?.();
  await other.stop?.();
  await dataSource.destroy();
  await watcher.destroy();
  await database.drop();
});

async function started(source: DataSource, options: TypeormStoreOptions = {}): Promise<IdempotencyStore> {
  const made = await storeOver(source, options);
  await made.start?.();
  return made;
}

function managerOf({ manager }: StoreTransaction): EntityManager {
  return manager as EntityManager;
}

/** What a handler does: it writes, and its record is completed. */
async function work(transaction: StoreTransaction, own: ReturnType<typeof request>): Promise<string> {
  await managerOf(transaction).query('INSERT INTO effects VALUES ($1)', [own.recordKey]);
  return transaction.complete(own, answer(), HOUR_MS);
}

async function effects({ recordKey }: { readonly recordKey: string }, source = watcher): Promise<number> {
  const rows: unknown[] = await source.query('SELECT FROM effects WHERE key = $1', [recordKey]);
  return rows.length;
}

/** What others see: the record's state, and how often the handler's write is there. */
async function seen(own: ReturnType<typeof request>): Promise<[string | undefined, number]> {
  return [(await other.find(own.recordKey))?.state, await effects(own)];
}

async function claimed(changes?: Parameters<typeof request>[0]): Promise<ReturnType<typeof request>> {
  const own = request(changes);
  expect((await store.claim(own)).kind).toBe('claimed');
  return own;
}

it('what a handler wrote and its record become true together, at the commit', async () => {
  const own = await claimed();
  const given = await store.transactions!.run(async (transaction) => {
    expect(await work(transaction, own)).toBe('written');
    expect(await seen(own)).toEqual(['in_progress', 0]);
    return 'given';
  });
  expect(given).toBe('given');
  expect(await seen(own)).toEqual(['completed', 1]);
  const replay = await other.claim(request({ recordKey: own.recordKey }));
  expect(replay.kind === 'completed' && replay.record.answer).toMatchObject({ kept: true, status: 201 });
});

it('neither becomes true where the work rejects, and run rejects with the same error', async () => {
  const own = await claimed();
  const error = new Error('card declined');
  const run = store.transactions!.run(async (transaction) => {
    await work(transaction, own);
    throw error;
  });
  await expect(run).rejects.toBe(error);
  expect(await seen(own)).toEqual(['in_progress', 0]);
  expect(await store.release(own, { began: true })).toBe('written');
});

it.each(['its lease is over', 'another has taken over', 'somebody has settled it', 'it was completed before'])(
  'a claim completes nothing in a transaction once %s, and the handler can roll back',
  async (way) => {
    const own = await claimed();
    const run = store.transactions!.run(async (transaction) => {
      await managerOf(transaction).query('INSERT INTO effects VALUES ($1)', [own.recordKey]);
      if (way === 'it was completed before') await store.complete(own, answer(), HOUR_MS);
      else await store.renew(own, 1);
      await sleep(30);
      if (way.startsWith('another')) await other.claim(request({ recordKey: own.recordKey, takeOver: true }));
      if (way.startsWith('somebody')) await other.resolve(own.recordKey, { kind: 'rerun' }, HOUR_MS);
      const result = await transaction.complete(own, answer(), HOUR_MS);
      throw new Error(result);
    });
    await expect(run).rejects.toThrow(/^lost$/);
    expect(await effects(own)).toBe(0);
  },
);

it('from the completion to the commit nobody can take the record over, settle or remove it, though the lease ends', async () => {
  for (let round = 0; round < 5; round += 1) {
    const own = await claimed({ leaseMs: 400 });
    let late: Promise<unknown[]> | undefined;
    await store.transactions!.run(async (transaction) => {
      expect(await work(transaction, own)).toBe('written');
      await sleep(420);
      late = Promise.all([
        other.claim(request({ recordKey: own.recordKey, takeOver: true })).then(({ kind }) => kind),
        other.resolve(own.recordKey, { kind: 'rerun' }, HOUR_MS),
        store.renew(own, HOUR_MS),
        store.abandon(own, { began: true }),
      ]);
      await sleep(100);
    });
    expect(await late).toEqual(['completed', false, 'lost', 'lost']);
    expect(await seen(own)).toEqual(['completed', 1]);
  }
});

it('a waiter in another process is woken after the commit, and finds the answer', async () => {
  const own = await claimed();
  let woken: () => void = () => undefined;
  const heard = new Promise<void>((resolve) => (woken = resolve));
  const end = other.subscribe!(own.recordKey, woken);
  await sleep(300); // the listener connects, and may wake everybody once
  await store.transactions!.run((transaction) => work(transaction, own));
  await heard;
  await until('it is completed', async () => (await seen(own))[0] === 'completed');
  end();
});

it('uses the transaction of the application, where it has a way of its own', async () => {
  const seenManagers: EntityManager[] = [];
  const own = await claimed();
  const custom = await started(dataSource, {
    transaction: (source, run) =>
      source.transaction('SERIALIZABLE', (manager) => {
        seenManagers.push(manager);
        return run(manager);
      }),
  });
  await custom.transactions!.run(async (transaction) => {
    expect(transaction.manager).toBe(seenManagers[0]);
    expect(await managerOf(transaction).query('SHOW transaction_isolation')).toEqual([
      { transaction_isolation: 'serializable' },
    ]);
    expect(await work(transaction, own)).toBe('written');
  });
  expect(await seen(own)).toEqual(['completed', 1]);
  await custom.stop?.();
});

it('above READ COMMITTED a renewal on the way rolls back, and the error says what to do', async () => {
  const own = await claimed();
  const custom = await started(dataSource, {
    transaction: (source, run) => source.transaction('REPEATABLE READ', run),
  });
  const run = custom.transactions!.run(async (transaction) => {
    await managerOf(transaction).query('INSERT INTO effects VALUES ($1)', [own.recordKey]);
    expect(await store.renew(own, 60_000)).toBe('written');
    await transaction.complete(own, answer(), HOUR_MS);
  });
  await expect(run).rejects.toThrow(/could not serialize access.*`lease` more than three times/);
  expect(await seen(own)).toEqual(['in_progress', 0]);
  await custom.stop?.();
});

it('a wrapper that would run the work a second time may not', async () => {
  let runs = 0;
  const custom = await started(dataSource, {
    transaction: async (source, run) => {
      await source.transaction(run).catch(() => undefined);
      return source.transaction(run);
    },
  });
  const run = custom.transactions!.run(async () => {
    runs += 1;
    throw new Error('first');
  });
  await expect(run).rejects.toThrow('first');
  expect(runs).toBe(1);
  await custom.stop?.();
});

it('finds its table whatever search_path the handler has set', async () => {
  const own = await claimed();
  await watcher.query('CREATE SCHEMA tenant');
  await watcher.query('CREATE TABLE tenant.idempotency_records (LIKE public.idempotency_records)');
  await store.transactions!.run(async (transaction) => {
    await managerOf(transaction).query('SET LOCAL search_path = tenant, public');
    expect(await work(transaction, own)).toBe('written');
  });
  expect(await seen(own)).toEqual(['completed', 1]);
  await watcher.query('DROP SCHEMA tenant CASCADE');
});

it('the commit is durable where the database would not make it so', async () => {
  const own = await claimed();
  await store.transactions!.run(async (transaction) => {
    await managerOf(transaction).query('SET LOCAL synchronous_commit = off');
    expect(await work(transaction, own)).toBe('written');
    expect(await managerOf(transaction).query('SHOW synchronous_commit')).toEqual([{ synchronous_commit: 'on' }]);
  });
});

it('a pool that gives no connection: rejects within the deadline, and the work never runs', async () => {
  const narrow = await connectedDataSource(database.url, { poolSize: 1 });
  const hasty = await started(narrow, { deadline: DEADLINE_MS });
  const runner = narrow.createQueryRunner();
  await runner.connect();
  let ran = false;
  const { ms, error } = await timed(() => hasty.transactions!.run(async () => (ran = true)));
  expect(error).toBeInstanceOf(IdempotencyStoreError);
  expect((error as Error).message).toMatch(/no transaction could be begun/);
  expect(ms).toBeLessThan(DEADLINE_MS + SLACK_MS);
  await runner.release();
  // The late one gets the connection, and gives it back.
  await until('the connection is free', async () => (await narrow.query('SELECT 1 AS one')).length === 1);
  await sleep(50);
  expect(ran).toBe(false);
  await hasty.stop?.();
  await narrow.destroy();
});

describe('between the completion and the commit', () => {
  let proxy: TcpProxy;
  let far: DataSource;
  let hasty: IdempotencyStore;

  beforeEach(async () => {
    proxy = await startProxy(Number(new URL(database.url).port));
    const url = new URL(database.url);
    url.port = String(proxy.port);
    far = await connectedDataSource(url.href, { poolErrorHandler: () => undefined });
    hasty = await started(far, { deadline: DEADLINE_MS });
  });

  afterEach(async () => {
    await hasty.stop?.();
    proxy.cutAll();
    await far.destroy().catch(() => undefined);
    await proxy.close();
  });

  it('a connection that is cut leaves nothing', async () => {
    const own = await claimed();
    const run = hasty.transactions!.run(async (transaction) => {
      expect(await work(transaction, own)).toBe('written');
      proxy.cutAll();
    });
    await expect(run).rejects.toThrow();
    await until('the server has rolled back', async () => (await store.renew(own, 60_000)) === 'written');
    expect(await seen(own)).toEqual(['in_progress', 0]);
  });

  it('a backend that an operator ends leaves nothing', async () => {
    const own = await claimed();
    const run = store.transactions!.run(async (transaction) => {
      expect(await work(transaction, own)).toBe('written');
      const [{ pid }] = (await managerOf(transaction).query('SELECT pg_backend_pid() AS pid')) as [{ pid: number }];
      await watcher.query('SELECT pg_terminate_backend($1)', [pid]);
    });
    await expect(run).rejects.toThrow();
    expect(await seen(own)).toEqual(['in_progress', 0]);
  });

  it('a commit whose reply is lost rejects; it has happened, and the record tells', async () => {
    const own = await claimed();
    const run = hasty.transactions!.run(async (transaction) => {
      expect(await work(transaction, own)).toBe('written');
      proxy.dropReplies(1);
    });
    await expect(run).rejects.toThrow();
    expect(await seen(own)).toEqual(['completed', 1]);
  });

  it('a network that swallows the commit: rejects within the deadline; what happens then happens to both', async () => {
    const own = await claimed();
    const { ms, error } = await timed(() =>
      hasty.transactions!.run(async (transaction) => {
        expect(await work(transaction, own)).toBe('written');
        proxy.blackhole(true);
      }),
    );
    expect(error).toBeInstanceOf(IdempotencyStoreError);
    expect((error as Error).message).toMatch(/the commit was not answered/);
    expect(ms).toBeLessThan(DEADLINE_MS + 2 * SLACK_MS);
    expect(await seen(own)).toEqual(['in_progress', 0]);
    proxy.blackhole(false);
    await until('the server has rolled back', async () => (await store.renew(own, 60_000)) === 'written');
    expect(await seen(own)).toEqual(['in_progress', 0]);
  });

  it('a network that swallows the completion: the work is told in time, and nothing is written', async () => {
    const own = await claimed();
    const { ms, error } = await timed(() =>
      hasty.transactions!.run(async (transaction) => {
        await managerOf(transaction).query('INSERT INTO effects VALUES ($1)', [own.recordKey]);
        proxy.blackhole(true);
        await transaction.complete(own, answer(), HOUR_MS);
      }),
    );
    expect(error).toBeInstanceOf(IdempotencyStoreError);
    expect((error as Error).message).toMatch(/complete in the transaction/);
    expect(ms).toBeLessThan(2 * DEADLINE_MS + 2 * SLACK_MS);
    proxy.blackhole(false);
    await until('the server has rolled back', async () => (await store.renew(own, 60_000)) === 'written');
    expect(await seen(own)).toEqual(['in_progress', 0]);
  });
});

it('a server that is killed has both or neither', async () => {
  const server = await isolatedPostgres({ synchronous_commit: 'off', wal_writer_delay: '10s' });
  const source = await connectedDataSource(server.url, { poolErrorHandler: () => undefined });
  await source.query('CREATE TABLE effects (key text NOT NULL)');
  const far = await started(source, { deadline: '5s' });
  const committed: string[] = [];
  const tried: string[] = [];
  let down = false;
  const workers = Array.from({ length: 4 }, async () => {
    while (!down) {
      const own = request();
      try {
        await far.claim(own);
        tried.push(own.recordKey);
        await far.transactions!.run((transaction) => work(transaction, own));
        committed.push(own.recordKey);
      } catch {
        // What failed was not acknowledged; it may be there all the same, but then both.
      }
    }
  });
  await until('there is something to lose', () => committed.length >= 60, 60_000);
  await server.kill();
  down = true;
  await Promise.all(workers);
  await server.restart();
  await until('the store works again', async () => (await timed(() => far.claim(request()))).error === undefined);
  for (const recordKey of tried) {
    const state = (await far.find(recordKey))?.state;
    expect([recordKey, await effects({ recordKey }, source)]).toEqual([recordKey, state === 'completed' ? 1 : 0]);
    if (committed.includes(recordKey)) expect(state).toBe('completed');
  }
  await far.stop?.();
  await source.destroy().catch(() => undefined);
  await server.stop();
}, 120_000);
