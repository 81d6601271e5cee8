import { IdempotencyConfigError, IdempotencyStoreError } from '../../core/errors.js';

/**
 * The text of a driver's error. The error itself is not passed on: ioredis hangs the whole command
 * on it, and with it a stored body that would end in somebody's log.
 */
function textOf(error: unknown): string {
  const text = error instanceof Error ? error.message || error.constructor.name : String(error);
  const nested = error instanceof AggregateError && !error.message ? error.errors.map(textOf).join('; ') : text;
  return nested.replace(/,? with args beginning with:.*$/s, '').slice(0, 300);
}

export function isNoScript(error: unknown): boolean {
  return textOf(error).startsWith('NOSCRIPT');
}

export function isMoved(error: unknown): boolean {
  return /^(MOVED|ASK) \d/.test(textOf(error));
}

/** Any failure of a call, as the port wants it. */
export function storeError(endpoint: string, error: unknown): IdempotencyStoreError {
  if (error instanceof IdempotencyStoreError) return error;
  return new IdempotencyStoreError(`Redis (${endpoint}): ${textOf(error)}`);
}

/**
 * What a failure at the start means to the person who deploys: a configuration error where waiting
 * will not help, else undefined.
 */
export function configErrorOf(endpoint: string, error: unknown): IdempotencyConfigError | undefined {
  const text = textOf(error);
  const at = `redisStore: Redis (${endpoint})`;
  const say = (message: string): IdempotencyConfigError => new IdempotencyConfigError(`${message} Redis said: ${text}`);
  if (/WRONGPASS|NOAUTH|invalid password|without any password configured/i.test(text)) {
    return say(
      `${at} refuses the client's credentials. Correct the user name or password that the client is made with.`,
    );
  }
  if (/READONLY/.test(text)) {
    return say(`${at} is a read-only replica. Connect the client to the primary (with Sentinel: role 'master').`);
  }
  if (/\bMOVED \d|CROSSSLOT/.test(text)) {
    return say(
      `${at} is a node of a cluster. Give a cluster client: new Cluster(…) of ioredis, createCluster(…) of node-redis.`,
    );
  }
  if (/NOPERM.*\bkeys?\b|access one of the keys|key.* mentioned/i.test(text)) {
    return say(
      `${at} does not let this user at the keys of the store. Allow the store's prefix in the ACL (~idempotency:*).`,
    );
  }
  if (/unknown command|NOPERM|can't run this command|has no permissions/i.test(text)) {
    return say(
      `${at} does not let this user run scripts, without which the store cannot decide in one step. Allow EVALSHA and EVAL, and inside them TIME, HMGET, HGET, HSET, HDEL, DEL, PEXPIRE, PEXPIREAT, PERSIST (and PUBLISH on the store's channel).`,
    );
  }
  return undefined;
}
