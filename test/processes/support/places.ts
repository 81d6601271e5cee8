import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import pg from 'pg';
import { CreateIdempotencyRecords1764000000000 } from 'nestjs-idempotency/typeorm';
import { DataSource } from 'typeorm';
import { createTestDatabase, isolatedPostgres } from '../../support/postgres.js';
import { describeRedis, redisUrl, startRedis } from '../../support/redis-server.js';
import { startProxy, type TcpProxy } from '../../support/tcp-proxy.js';
import type { FixtureStore } from '../fixtures/config.js';

/** Room for the records of one test file. */
export interface Place {
  readonly store: FixtureStore;
  /** Connections of the applications to the store. `busy`: with a statement under way (Redis has one at a time). */
  connections(): Promise<{ open: number; busy: number }>;
  /** Rows or keys, expired ones included. */
  records(): Promise<number>;
  /** Ends the connections that hear hints, and says how many there were. */
  killListeners(): Promise<number>;
  close(): Promise<void>;
}

/** A server that a test may freeze, kill and cut off. */
export interface OwnServer {
  /** Through the proxy. */
  readonly store: FixtureStore;
  readonly proxy: TcpProxy;
  /** SIGSTOP for all its processes. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** SIGKILL for all its processes. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  close(): Promise<void>;
}

export interface Backend {
  readonly name: 'postgres' | 'redis' | 'memory';
  /** How many application processes share its records. */
  readonly processes: number;
  open(name: string): Promise<Place>;
}

export interface ServerBackend extends Backend {
  readonly name: 'postgres' | 'redis';
  /** A server of its own, behind a proxy; every call to it ends after `deadline` milliseconds. */
  own(deadline: number): Promise<OwnServer>;
}

/** The deadline of a store that nothing is wrong with: a busy machine is no fault of its. */
const CALM_MS = 15_000;

export const postgres: ServerBackend = {
  name: 'postgres',
  processes: 3,
  async open(name) {
    const database = await createTestDatabase(`processes/${name}`);
    await createTable(database.url);
    const client = new pg.Client({ connectionString: database.url, application_name: 'test' });
    await client.connect();
    const ask = async (statement: string): Promise<Record<string, string>> =>
      (await client.query<Record<string, string>>(statement)).rows[0]!;
    const ours = `datname = current_database() AND application_name LIKE 'fixture%'`;
    return {
      store: { kind: 'postgres', url: database.url, deadline: CALM_MS },
      async connections() {
        const counts = await ask(
          `SELECT count(*) AS open, count(*) FILTER (WHERE state <> 'idle') AS busy FROM pg_stat_activity WHERE ${ours}`,
        );
        return { open: Number(counts['open']), busy: Number(counts['busy']) };
      },
      records: async () => Number((await ask('SELECT count(*) AS n FROM idempotency_records'))['n']),
      async killListeners() {
        const { rowCount } = await client.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE ${ours} AND query ~ '^(LISTEN|NOTIFY|SELECT 1$)'`);
        return rowCount ?? 0;
      },
      async close() {
        await client.end();
        await database.drop();
      },
    };
  },
  async own(deadline) {
    const server = await isolatedPostgres();
    await createTable(server.url);
    const proxy = await startProxy(server.port);
    return {
      store: { kind: 'postgres', url: through(server.url, proxy), deadline },
      proxy,
      pause: () => server.pause(),
      resume: () => server.resume(),
      kill: () => server.kill(),
      restart: () => server.restart(),
      async close() {
        await proxy.close();
        await server.stop();
      },
    };
  },
};

const redis: ServerBackend = {
  name: 'redis',
  processes: 3,
  async open(name) {
    const prefix = `processes-${name}-${randomUUID().slice(0, 8)}:`;
    const client = new Redis(redisUrl(), { connectionName: 'test' });
    const list = async (): Promise<Record<string, string>[]> =>
      String(await client.client('LIST'))
        .trim()
        .split('\n')
        .map((line) => Object.fromEntries(line.split(' ').map((pair) => pair.split('=') as [string, string])));
    // Other test files have applications on the same server; those of this one are known by this name.
    const clientName = `fixture-${prefix}`;
    const ours = async (): Promise<Record<string, string>[]> =>
      (await list()).filter((connection) => connection['name'] === clientName);
    const keys = (): Promise<string[]> => client.keys(`${prefix}*`);
    return {
      store: { kind: 'redis', url: redisUrl(), prefix, clientName, deadline: CALM_MS },
      connections: async () => ({ open: (await ours()).length, busy: 0 }),
      records: async () => (await keys()).filter((key) => key.includes('{')).length,
      async killListeners() {
        const listeners = (await ours()).filter((connection) => Number(connection['sub']) > 0);
        for (const { id } of listeners) await client.client('KILL', 'ID', Number(id));
        return listeners.length;
      },
      async close() {
        const left = await keys();
        if (left.length > 0) await client.del(left);
        client.disconnect();
      },
    };
  },
  async own(deadline) {
    const server = await startRedis();
    const proxy = await startProxy(server.port);
    return {
      store: { kind: 'redis', url: through(server.url, proxy), prefix: 'processes:', clientName: 'fixture', deadline },
      proxy,
      pause: async () => server.pause(),
      resume: async () => server.resume(),
      kill: () => server.kill(),
      restart: () => server.restart(),
      async close() {
        await proxy.close();
        await server.stop();
      },
    };
  },
};

const memory: Backend = {
  name: 'memory',
  processes: 1,
  async open() {
    const none = async (): Promise<never> => {
      throw new Error('records in a process cannot be looked at from another one');
    };
    return {
      store: { kind: 'memory' },
      connections: async () => ({ open: 0, busy: 0 }),
      records: none,
      killListeners: async () => 0,
      close: async () => undefined,
    };
  },
};

/** The same tests on Postgres and on Redis. */
export function describeServers(title: string, body: (backend: ServerBackend) => void): void {
  describe(`${title} (Postgres)`, () => body(postgres));
  describeRedis(`${title} (Redis)`, () => body(redis));
}

/** The same tests on every store; in memory there is one process. */
export function describeStores(title: string, body: (backend: Backend) => void): void {
  describeServers(title, body);
  describe(`${title} (memory)`, () => body(memory));
}

async function createTable(url: string): Promise<void> {
  const migrations = { migrations: [CreateIdempotencyRecords1764000000000], migrationsRun: true };
  const dataSource = await new DataSource({ type: 'postgres', url, ...migrations }).initialize();
  await dataSource.destroy();
}

function through(url: string, proxy: TcpProxy): string {
  const changed = new URL(url);
  changed.port = String(proxy.port);
  return changed.href;
}
