import type { IdempotencyStore } from '../../core/store.js';
import type { RedisStoreOptions } from './redis.options.js';
import { RedisStore } from './redis.store.js';

/**
 * Keeps records in Redis 5 or newer, Valkey, Sentinel or Cluster.
 *
 * Redis keeps what it acknowledged as well as its persistence and its failover do, and no better:
 * where an operation must not run twice whatever happens, use Postgres.
 */
export function redisStore(options: RedisStoreOptions): IdempotencyStore {
  return new RedisStore(options);
}

export type { RedisStoreOptions } from './redis.options.js';
export type {
  IoredisClient,
  IoredisCluster,
  NodeRedisClient,
  NodeRedisCluster,
  NodeRedisPool,
  NodeRedisSentinel,
  RedisArgument,
  RedisStoreClient,
} from './redis.client-types.js';
