import pg from 'pg';
import { DataSource, type EntityManager } from 'typeorm';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { CreateIdempotencyRecords1764000000000 } from '../../lib/stores/typeorm/index.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { connectedDataSource, noContainer, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';
import { until } from './waiting.js';
import { typeormStore } from '../../lib/stores/typeorm/index.js';
import { freePort } from '../../sample-app/src/embedded-postgres.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase('connections');
});

afterAll(() => database.drop());

async function withStore<T>(
  dataSource: DataSource,
  body: (store: IdempotencyStore) => Promise<T>,
  options: Parameters<typeof storeOver>[1] = {},
): Promise<T> {
  const store = await storeOver(dataSource, options);
  try {
    await store.start?.();
    return await body(store);
  } finally {
    await store.stop?.();
    if (dataSource.isInitialized) await dataSource.destroy();
  }
}

function poolOf(store: IdempotencyStore): pg.Pool {
  return (store as unknown as { calls: { pool: pg.Pool } }).calls.pool;
}

interface Session {
  readonly application_name: string;
  readonly usename: string;
}

async function sessions(dataSource: DataSource): Promise<Session[]> {
  return dataSource.query(
    `SELECT application_name, usename FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%idempotency'`,
  );
}

it('handlers that hold every connection of the DataSource do not wait for their own records', async () => {
  const dataSource = await connectedDataSource(database.url, { poolSize: 3 });
  await withStore(dataSource, async (store) => {
    let holding = 0;
    let allHold!: () => void;
    const everybodyHolds = new Promise<void>((resolve) => (allHold = resolve));
    const handler = async (manager: EntityManager): Promise<string[]> => {
      await manager.query('SELECT 1');
      if (++holding === 3) allHold();
      await everybodyHolds;
      const own = request();
      const claimed = await store.claim(own);
      const renewed = await store.renew(own, 60_000);
      return [claimed.kind, renewed, await store.complete(own, answer(), HOUR_MS)];
    };
    const outcomes = await Promise.all([1, 2, 3].map(() => dataSource.transaction(handler)));
    for (const outcome of outcomes) expect(outcome).toEqual(['claimed', 'written', 'written']);
  });
});

it('has as many connections as `poolSize` says, and its name on them', async () => {
  const dataSource = await connectedDataSource(database.url, { applicationName: 'shop' });
  await withStore(
    dataSource,
    async (store) => {
      await Promise.all(Array.from({ length: 50 }, () => store.find(request().recordKey)));
      const names = (await sessions(dataSource)).map((session) => session.application_name);
      expect(names).toEqual(['shop idempotency', 'shop idempotency']);
    },
    { poolSize: 2 },
  );
});

it('gives its connections back', async () => {
  const dataSource = await connectedDataSource(database.url);
  const watcher = await connectedDataSource(database.url);
  await withStore(dataSource, async (store) => {
    store.subscribe?.('a'.repeat(43), () => undefined);
    await Promise.all(Array.from({ length: 8 }, () => store.find(request().recordKey)));
    expect((await sessions(watcher)).length).toBeGreaterThanOrEqual(4);
  });
  const end = performance.now() + 5_000;
  while ((await sessions(watcher)).length > 0 && performance.now() < end);
  expect(await sessions(watcher)).toEqual([]);
  await watcher.destroy();
});

it('reads and writes on the primary only: replicas are not even connected to', async () => {
  const nobodyListens = `postgres://postgres@127.0.0.1:${await freePort()}/replica`;
  const dataSource = new DataSource({
    type: 'postgres',
    replication: { master: { url: database.url }, slaves: [{ url: nobodyListens }], defaultMode: 'slave' },
    migrations: [CreateIdempotencyRecords1764000000000],
    poolErrorHandler: () => undefined,
  });
  // TypeORM connects to every replica at once; this one is taken away before it does.
  const { replication } = dataSource.driver.options as unknown as { replication: { slaves: unknown[] } };
  const slaves = replication.slaves.splice(0);
  await dataSource.initialize();
  replication.slaves.push(...slaves);
  await dataSource.runMigrations();
  await withStore(dataSource, async (store) => {
    const own = request();
    expect((await store.claim(own)).kind).toBe('claimed');
    expect((await store.find(own.recordKey))?.state).toBe('in_progress');
  });
});

it('connects with the credentials that the DataSource was given, password and options included', async () => {
  const admin = await connectedDataSource(database.url);
  await admin.query('DROP ROLE IF EXISTS idempotency_connections_role');
  await admin.query(`CREATE ROLE idempotency_connections_role LOGIN SUPERUSER PASSWORD 'p@ss:w/rd'`);
  const { hostname, port, pathname } = new URL(database.url);
  const password = (): string => 'p@ss:w/rd';
  const dataSource = await connectedDataSource('', {
    ...{ url: undefined, host: hostname, port: Number(port), database: pathname.slice(1) },
    ...{ username: 'idempotency_connections_role', password: password as unknown as string },
    extra: { options: '-c work_mem=5MB', max: 7 },
  });
  await withStore(dataSource, async (store) => {
    expect((await store.claim(request())).kind).toBe('claimed');
    expect((await sessions(admin)).map(({ usename }) => usename)).toEqual(['idempotency_connections_role']);
    // The server of the tests trusts this machine and asks for none, so it is looked for where pg keeps it.
    expect(poolOf(store).options).toMatchObject({ max: 4, options: '-c work_mem=5MB' });
    expect(poolOf(store).options.password).toBe(password);
  });
  await admin.query('DROP ROLE idempotency_connections_role');
  await admin.destroy();
});

it('does not mind how the application wants its values parsed', async () => {
  const dataSource = await connectedDataSource(database.url);
  const { INT8, INT4, INT2, BOOL, BYTEA, TIMESTAMPTZ, UUID, TEXT } = pg.types.builtins;
  const kept = [INT8, INT4, INT2, BOOL, BYTEA, TIMESTAMPTZ, UUID, TEXT].map(
    (oid) => [oid, pg.types.getTypeParser(oid) as (value: string) => unknown] as const,
  );
  for (const [oid] of kept) pg.types.setTypeParser(oid, () => Symbol('what the application likes'));
  try {
    await withStore(dataSource, async (store) => {
      const own = request();
      expect((await store.claim(own)).kind).toBe('claimed');
      await store.complete(own, answer('kept'), HOUR_MS);
      const view = await store.find(own.recordKey);
      expect(view).toMatchObject({ state: 'completed', attempt: 1, answer: { status: 201 } });
      expect(view?.completedAt).toBeInstanceOf(Date);
    });
  } finally {
    for (const [oid, parse] of kept) pg.types.setTypeParser(oid, parse);
  }
});

it('works for a script that has a DataSource and no Nest', async () => {
  const dataSource = await connectedDataSource(database.url);
  const store = await typeormStore({ dataSource, notify: false }).createStore(noContainer);
  await store.start?.();
  expect((await store.claim(request())).kind).toBe('claimed');
  await store.stop?.();
  await dataSource.destroy();
});

it('leaves nothing on a connection that the next statement needs, but the names of statements', async () => {
  const dataSource = await connectedDataSource(database.url);
  await withStore(
    dataSource,
    async (store) => {
      await lives(store);
      await store.purge(10);
      // The third one tells other processes, some milliseconds after the write.
      const left = async () => (await overTheOneConnection(store, dataSource))[0];
      await until('other processes are told', async () => (await left())!['prepared'] === 3);
      expect(await left()).toEqual({ prepared: 3, held: 0, settings: 0 });
    },
    { poolSize: 1 },
  );
});

// A pooler that does not know of prepared statements hands the next statement to a connection on which
// its name stands for nothing, or to one on which another process has prepared it.
it.each([
  ['does not exist any more', 'DEALLOCATE ALL'],
  ['exists already', undefined],
])('goes on without names where a name %s', async (_title, after) => {
  const dataSource = await connectedDataSource(database.url);
  await withStore(
    dataSource,
    async (store) => {
      if (after === undefined) await prepareEverythingOn(store, dataSource);
      else {
        await lives(store);
        await poolOf(store).query(after);
      }
      await Promise.all(Array.from({ length: 5 }, () => lives(store)));
      const { rows } = await poolOf(store).query(
        'SELECT calls FROM (SELECT sum(generic_plans + custom_plans)::integer AS calls FROM pg_prepared_statements) AS p',
      );
      expect(rows).toEqual([{ calls: after === undefined ? '0' : null }]);
    },
    { poolSize: 1, notify: false },
  );
});

async function lives(store: IdempotencyStore): Promise<void> {
  const own = request();
  expect((await store.claim(own)).kind).toBe('claimed');
  expect(await store.complete(own, answer(), HOUR_MS)).toBe('written');
}

/** Puts the names that another store uses on the one connection of this one. */
async function prepareEverythingOn(store: IdempotencyStore, dataSource: DataSource): Promise<void> {
  const another = await storeOver(dataSource, { poolSize: 1, notify: false });
  await lives(another);
  const { rows } = await poolOf(another).query<{ name: string; statement: string }>(
    'SELECT name, statement FROM pg_prepared_statements',
  );
  await another.stop?.();
  expect(rows).toHaveLength(2);
  for (const { name, statement } of rows) await poolOf(store).query(`PREPARE ${name} AS ${statement}`);
}

/** What the store's one connection has that would be missing on another. */
async function overTheOneConnection(
  store: IdempotencyStore,
  dataSource: DataSource,
): Promise<Record<string, number>[]> {
  const client = await poolOf(store).connect();
  try {
    await dataSource.query('SELECT 1');
    const { rows } = await client.query<Record<string, string>>(
      `SELECT (SELECT count(*) FROM pg_prepared_statements) AS prepared,
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS held,
        (SELECT count(*) FROM pg_settings WHERE source = 'session') AS settings`,
    );
    return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, Number(value)])));
  } finally {
    client.release();
  }
}
