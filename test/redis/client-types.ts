import { Cluster as IoredisCluster, Redis } from 'ioredis';
import { createClient, createClientPool, createCluster, createSentinel } from 'redis';
import type { RedisStoreClient } from '../../lib/stores/redis/index.js';

/** Compiles only while the real clients of both libraries fit what `redisStore` asks for. Never called. */
export function realClients(): RedisStoreClient[] {
  const ioredis: RedisStoreClient = new Redis();
  const ioredisCluster: RedisStoreClient = new IoredisCluster([]);
  const nodeRedis: RedisStoreClient = createClient();
  const resp2: RedisStoreClient = createClient({ RESP: 2 });
  const pool: RedisStoreClient = createClientPool();
  const cluster: RedisStoreClient = createCluster({ rootNodes: [] });
  const sentinel: RedisStoreClient = createSentinel({ name: 'main', sentinelRootNodes: [] });
  return [ioredis, ioredisCluster, nodeRedis, resp2, pool, cluster, sentinel];
}

/** And what is no client does not compile. */
export const noClients = (): RedisStoreClient[] => [
  // @ts-expect-error -- the options of a client
  { host: 'localhost', port: 6379 },
  // @ts-expect-error -- a URL
  'redis://localhost:6379',
  // @ts-expect-error -- the class
  Redis,
];
