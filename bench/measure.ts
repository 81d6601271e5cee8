import { cpus, totalmem } from 'node:os';
import { isolatedPostgres } from '../test/support/postgres.js';
import { hasRedisServer, startRedis, type RedisServer } from '../test/support/redis-process.js';
import type { Bench } from './parts/bench.js';
import { measureHttp } from './parts/http.js';
import { measureItems } from './parts/items.js';
import { measureLargeTable } from './parts/large-table.js';
import { measureMemory } from './parts/memory.js';
import { measurePgbench } from './parts/pgbench.js';
import { BenchProcess } from './parts/process.js';
import type { Results } from './report/results.js';
import type { Scale } from './scale.js';
import type { Adapter } from './server/settings.js';

const ADAPTERS: readonly Adapter[] = ['express', 'fastify'];

/** Starts the servers, measures everything on them, and stops them. */
export async function measure(scale: Scale, say: Bench['say']): Promise<Results> {
  const notRun: string[] = [];
  const stop: (() => Promise<void>)[] = [];
  try {
    // Durable, as in production: what is fast without fsync says nothing about a store of record.
    const postgres = await isolatedPostgres({ max_wal_size: '4GB' });
    stop.push(() => postgres.stop());
    const redis = await redisOrReason(notRun, say);
    if (redis) stop.push(() => redis.stop());
    const servers = { postgresUrl: postgres.url, redisUrl: redis?.url };
    const load = await BenchProcess.start('load/main.ts');
    stop.push(() => load.stop());
    const database = await BenchProcess.start('database/main.ts');
    stop.push(() => database.stop());
    const bench: Bench = { scale, servers, load, database, say };

    const http = await inTurn(ADAPTERS, (adapter) => measureHttp(bench, adapter));
    const items = await measureItems(bench);
    const pgbench = await measurePgbench(bench);
    if (!pgbench) notRun.push('pgbench: it is not installed on this machine.');
    const memory = [await measureMemory(bench, redis ? 'redis' : 'postgres')];
    const largeTable = await measureLargeTable(bench);
    const machine = machineOf();
    const measuredAt = new Date().toISOString();
    return {
      ...{ mode: scale.name, measuredAt, machine, notRun, items, pgbench, largeTable, memory },
      throughput: http.map(({ throughput }) => throughput),
      latency: http.map(({ latency }) => latency),
      streams: http.map(({ streams }) => streams),
    };
  } finally {
    for (const end of stop.reverse()) await end();
  }
}

async function redisOrReason(notRun: string[], say: Bench['say']): Promise<RedisServer | undefined> {
  if (hasRedisServer()) return startRedis();
  const reason = 'everything on Redis, the peer among it: there is no redis-server on the path.';
  say(`NOT RUN: ${reason}`);
  notRun.push(reason);
  return undefined;
}

function machineOf(): Results['machine'] {
  const [first] = cpus();
  const memoryGb = Math.round(totalmem() / 2 ** 30);
  return { cpu: first?.model.trim() ?? 'unknown', cores: cpus().length, memoryGb, node: process.version };
}

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}
