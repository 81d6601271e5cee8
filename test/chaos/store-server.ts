import { Redis } from 'ioredis';
import { DataSource } from 'typeorm';
import { type IdempotencyStore, type StoreContainer } from 'nestjs-idempotency';
import { CreateIdempotencyRecords1764000000000, typeormStore } from 'nestjs-idempotency/typeorm';
import { redisStore } from 'nestjs-idempotency/redis';
import { isolatedPostgres } from '../support/postgres.js';
import { startRedis, type RedisServer } from '../support/redis-process.js';

/** A store's server with everything that the nemesis does to it, and a look at it from outside. */
export interface StoreServer {
  readonly port: number;
  /** Files that must not hold a secret. */
  readonly dataDirs: readonly string[];
  kill(): Promise<void>;
  restart(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  stop(): Promise<void>;
  /** Ends the connections of the applications. */
  endConnections(): Promise<void>;
  /** Runs `look` with a store of the runner's own, which no proxy stands before. */
  withStore<T>(look: (store: IdempotencyStore) => Promise<T>): Promise<T>;
  /** What a statement finds; in Postgres only. */
  query(sql: string): Promise<object[]>;
  /** Record keys and milliseconds of those that should have been removed. */
  overdue(): Promise<{ recordKey: string; forMs: number }[]>;
}

const NO_CONTAINER: StoreContainer = {
  get: () => {
    throw new Error('There is no application here.');
  },
};

/** How a server is set up otherwise than it should be, for a planted bug. */
export interface Preparation {
  /** Settings of the Postgres server. */
  readonly settings?: Readonly<Record<string, string>>;
  /** A statement that is run after the migrations. */
  readonly sql?: string;
  /** Further arguments of `redis-server`. */
  readonly args?: readonly string[];
}

export async function startStore(kind: 'postgres' | 'redis', preparation: Preparation = {}): Promise<StoreServer> {
  return kind === 'postgres' ? startPostgresStore(preparation) : startRedisStore(preparation);
}

async function startPostgresStore({ settings, sql }: Preparation): Promise<StoreServer> {
  const server = await isolatedPostgres(settings);
  const dataSourceFor = (): DataSource =>
    new DataSource({ type: 'postgres', url: server.url, migrations: [CreateIdempotencyRecords1764000000000] });
  const withDataSource = async <T>(use: (dataSource: DataSource) => Promise<T>): Promise<T> => {
    const dataSource = await dataSourceFor().initialize();
    try {
      return await use(dataSource);
    } finally {
      await dataSource.destroy();
    }
  };
  await withDataSource(async (dataSource) => {
    await dataSource.runMigrations();
    if (sql !== undefined) await dataSource.query(sql);
  });
  return {
    port: server.port,
    dataDirs: [`${server.dataDir}/base`],
    kill: () => server.kill(),
    restart: () => server.restart(),
    pause: () => server.pause(),
    resume: () => server.resume(),
    stop: () => server.stop(),
    endConnections: () =>
      withDataSource(async (dataSource) => {
        await dataSource.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
        );
      }),
    withStore: (look) =>
      withDataSource(async (dataSource) => {
        const store = await typeormStore({ dataSource, deadline: '10s' }).createStore(NO_CONTAINER);
        try {
          return await look(store);
        } finally {
          await store.stop?.();
        }
      }),
    query: (text) => withDataSource((dataSource) => dataSource.query<object[]>(text)),
    overdue: () =>
      withDataSource(async (dataSource) => {
        await dataSource.query('CHECKPOINT');
        const rows = await dataSource.query<{ record_key: Buffer; for_ms: string }[]>(
          `SELECT record_key, extract(epoch FROM clock_timestamp() - expires_at) * 1000 AS for_ms
           FROM idempotency_records WHERE expires_at < clock_timestamp()`,
        );
        return rows.map((row) => ({ recordKey: row.record_key.toString('base64url'), forMs: Number(row.for_ms) }));
      }),
  };
}

async function startRedisStore({ args = [] }: Preparation): Promise<StoreServer> {
  // With `everysec`, its default, what was acknowledged in the last two seconds is lost with the process
  // where the disk is slow: an fsync that is under way holds back the next write to the file.
  const server = await startRedis({ args: ['--appendfsync', 'always', ...args] });
  return redisStoreServer(() => server);
}

/** `current`: the Redis that is meant, which may be another one later. */
export async function redisStoreServer(current: () => RedisServer): Promise<StoreServer> {
  const withClient = async <T>(use: (client: Redis) => Promise<T>): Promise<T> => {
    const client = new Redis(current().url);
    client.on('error', () => undefined);
    try {
      return await use(client);
    } finally {
      client.disconnect();
    }
  };
  const directory = await withClient(async (client) => String(((await client.config('GET', 'dir')) as string[])[1]));
  return {
    port: current().port,
    dataDirs: [directory],
    kill: () => current().kill(),
    restart: () => current().restart(),
    pause: async () => current().pause(),
    resume: async () => current().resume(),
    stop: () => current().stop(),
    endConnections: () => withClient(async (client) => void (await client.call('CLIENT', 'KILL', 'TYPE', 'normal'))),
    withStore: (look) =>
      withClient(async (client) => {
        const store = redisStore({ client, deadline: '10s' });
        try {
          return await look(store);
        } finally {
          await store.stop?.();
        }
      }),
    query: () => Promise.reject(new Error('Redis has no statements.')),
    // Redis removes by itself what is over, and shows it to nobody before.
    overdue: async () => [],
  };
}
