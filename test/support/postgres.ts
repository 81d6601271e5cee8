import { createHash } from 'node:crypto';
import pg from 'pg';
import {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from '../../sample-app/src/embedded-postgres.ts';

export interface TestDatabase {
  readonly url: string;
  drop(): Promise<void>;
}

const isolated = new Set<EmbeddedPostgres>();
// What a failed test left behind ends with its file.
if (typeof afterAll === 'function') {
  afterAll(async () => void (await Promise.all([...isolated].map((server) => server.stop()))));
}

/** The Postgres of this test run; the global setup has started it unless `DATABASE_URL` was given. */
export function postgresUrl(): string {
  const url = process.env.DATABASE_URL;
  if (!url) throw new Error('There is no Postgres in this run: the global setup has not run');
  return url;
}

/** An empty database of its own for a test file; `name` is any text, the file's name for one. */
export async function createTestDatabase(name: string): Promise<TestDatabase> {
  const database = `idempotency_test_${createHash('sha256').update(name).digest('hex').slice(0, 16)}`;
  const drop = (): Promise<void> => administer(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
  await drop();
  await administer(`CREATE DATABASE ${database} TEMPLATE template0`);
  const url = new URL(postgresUrl());
  url.pathname = `/${database}`;
  return { url: url.href, drop };
}

/** A server of its own, for a test that kills it, freezes it or changes its settings. Durable settings by default. */
export async function isolatedPostgres(
  settings: Record<string, string> = {},
  options: Omit<EmbeddedPostgresOptions, 'settings'> = {},
): Promise<EmbeddedPostgres> {
  const durable = { fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on', max_connections: '100' };
  const server = await startEmbeddedPostgres({ ...options, settings: { ...durable, ...settings } });
  isolated.add(server);
  return server;
}

async function administer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: postgresUrl() });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
