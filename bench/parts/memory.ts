import type { Memory } from '../server/control.js';
import { round, type Bench } from './bench.js';
import { startServer, type BenchProcess } from './process.js';

export interface MemoryGrowth {
  readonly store: 'postgres' | 'redis';
  readonly few: number;
  readonly many: number;
  readonly afterFew: Memory;
  readonly afterMany: Memory;
  /** Megabytes in use after a collection: the heap and what lies outside of it. */
  readonly growthMb: number;
}

/** What a server holds after many requests, each with a new key, less what it held after the first ones. */
export async function measureMemory(bench: Bench, store: 'postgres' | 'redis'): Promise<MemoryGrowth> {
  const { fewRequests: few, manyRequests: many } = bench.scale;
  bench.say(`memory: ${many.toLocaleString('en')} requests on ${store}`);
  // Records of a minute: the store's server has memory and disk for no more.
  const server = await startServer('fastify', store, bench.servers, '60s');
  try {
    await send(bench, server, 'few', few);
    const afterFew = await server.ask<Memory>('memory');
    await send(bench, server, 'many', many - few);
    const afterMany = await server.ask<Memory>('memory');
    return { store, few, many, afterFew, afterMany, growthMb: afterMany.usedMb - afterFew.usedMb };
  } finally {
    await server.stop();
  }
}

async function send({ load, scale }: Bench, server: BenchProcess, name: string, amount: number): Promise<void> {
  const { connections } = scale;
  // In parts, so that the generator does not gather the latencies of a million requests.
  const most = 50_000;
  for (let sent = 0; sent < amount; sent += most) {
    await round(load, 'requests of the memory run', {
      ...{ kind: 'http', url: server.url, path: '/orders', connections, replayed: false },
      ...{ amount: Math.min(most, amount - sent), keys: { kind: 'new', prefix: `memory-${name}-${sent}` } },
    });
  }
}
