import { parseDuration, type Duration } from '../../core/duration.js';
import { IdempotencyConfigError } from '../../core/errors.js';
import type { RedisStoreClient } from './redis.client-types.js';

export interface RedisStoreOptions {
  /**
   * A client of ioredis or node-redis, 5 or newer: single, Sentinel, Cluster, or a pool of
   * node-redis. The application makes it, connects it (node-redis: `await client.connect()`) and
   * closes it.
   */
  client: RedisStoreClient;
  /** What all keys begin with; `'idempotency:'`. Two applications on one Redis need two. */
  prefix?: string;
  /** How long a call may take before it fails, whatever the client would do; `'1s'`. */
  deadline?: Duration;
  /** Refuse to start where Redis may forget records, instead of warning. */
  strict?: boolean;
  /**
   * How many replicas must have a claim before it counts; 0. The wait holds up the connection for
   * everything else on it, so give the store a client of its own (or a pool).
   */
  minReplicas?: number;
  /** How long to wait for them; half the deadline. */
  replicaTimeout?: Duration;
  /** A connected client for the hints of `subscribe` alone. Without one, `client.duplicate()` is used. */
  subscriber?: RedisStoreClient;
  /** Where warnings go; the console. */
  logger?: { warn(message: string): void };
}

/** The options, checked, with what was left out filled in. */
export interface RedisStoreSettings {
  readonly prefix: string;
  readonly deadlineMs: number;
  readonly strict: boolean;
  readonly minReplicas: number;
  readonly replicaTimeoutMs: number;
  readonly logger: { warn(message: string): void };
}

const LONGEST_PREFIX = 200;

export function readOptions(options: RedisStoreOptions): RedisStoreSettings {
  if (typeof options !== 'object' || options === null || !('client' in options)) {
    throw new IdempotencyConfigError(
      'redisStore: write redisStore({ client }) with a client of ioredis or node-redis.',
    );
  }
  const prefix = options.prefix ?? 'idempotency:';
  // Braces of ours put the keys of one record into one slot of a cluster; others before them would
  // put all records into one.
  if (typeof prefix !== 'string' || prefix === '' || prefix.length > LONGEST_PREFIX || /[{}]/.test(prefix)) {
    throw new IdempotencyConfigError(
      `redisStore: prefix must be a text of 1 to ${LONGEST_PREFIX} characters without braces, such as 'idempotency:'.`,
    );
  }
  const deadlineMs = parseDuration(options.deadline ?? '1s', 'redisStore: deadline');
  const minReplicas = options.minReplicas ?? 0;
  if (!Number.isInteger(minReplicas) || minReplicas < 0 || minReplicas > 100) {
    throw new IdempotencyConfigError('redisStore: minReplicas must be a whole number, 0 to 100.');
  }
  const replicaTimeoutMs =
    options.replicaTimeout === undefined
      ? Math.max(1, Math.floor(deadlineMs / 2))
      : parseDuration(options.replicaTimeout, 'redisStore: replicaTimeout');
  if (minReplicas > 0 && replicaTimeoutMs >= deadlineMs) {
    throw new IdempotencyConfigError(
      `redisStore: replicaTimeout (${replicaTimeoutMs} ms) must be shorter than deadline (${deadlineMs} ms), of which it is a part.`,
    );
  }
  return {
    prefix,
    deadlineMs,
    strict: options.strict ?? false,
    minReplicas,
    replicaTimeoutMs,
    logger: options.logger ?? console,
  };
}
