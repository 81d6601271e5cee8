import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../sample-app/src/embedded-postgres.ts';
import { compileSources } from './compiled-sources.ts';
import { hasRedisServer, startRedis, type RedisServer } from './redis-process.ts';

declare global {
  var testServers: { postgres?: EmbeddedPostgres; redis?: RedisServer } | undefined;
}

/**
 * One Postgres and one Redis for the whole run. Only `DATABASE_URL` and `REDIS_URL` make the tests
 * use others: what happens to listen on 5432 or 6379 belongs to somebody else.
 */
export default async function globalSetup(): Promise<void> {
  const servers: NonNullable<typeof globalThis.testServers> = {};
  globalThis.testServers = servers;
  process.env.COMPILED_SOURCES = await compileSources();
  if (!process.env.DATABASE_URL) {
    servers.postgres = await startEmbeddedPostgres();
    process.env.DATABASE_URL = servers.postgres.url;
  }
  if (process.env.REDIS_URL) return;
  if (hasRedisServer()) {
    servers.redis = await startRedis();
    process.env.REDIS_URL = servers.redis.url;
  } else {
    console.warn(notice);
  }
}

const notice = `
********************************************************************************
*                                                                              *
*   THE REDIS TESTS DO NOT RUN: there is no redis-server on the PATH.          *
*   Install one (Debian: apt-get install redis-server; macOS: brew install     *
*   redis), or set REDIS_URL to a server that the tests may write to.          *
*                                                                              *
********************************************************************************
`;
