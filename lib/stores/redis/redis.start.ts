import { randomUUID } from 'node:crypto';
import { withDeadline } from '../../core/deadline.js';
import { IdempotencyConfigError, IdempotencyStoreError } from '../../core/errors.js';
import type { ClaimRequest, IdempotencyStore } from '../../core/store.js';
import { configErrorOf, storeError } from './redis.errors.js';
import type { RedisLink, RedisNode } from './redis.link.js';
import type { RedisStoreSettings } from './redis.options.js';

const PROBE_MS = 60_000;

/** What the store relies on, tried out on the live client; rejects with a message that names the fix. */
export async function checkRedis(
  store: IdempotencyStore,
  link: RedisLink,
  settings: RedisStoreSettings,
  keyOf: (recordKey: string) => string,
): Promise<void> {
  if (link.notConnected) {
    throw new IdempotencyConfigError(
      'redisStore: client is not connected. Write `await client.connect()` before it is given to the store, and heed what that rejects with.',
    );
  }
  // A client in trouble queues commands and tells only its listeners why.
  let heard: unknown;
  const end = link.onError((error) => (heard = error));
  try {
    await tryOut(store, link, settings, keyOf);
    await checkMemory(link, settings);
  } catch (error) {
    if (error instanceof IdempotencyConfigError) throw error;
    throw (
      configErrorOf(link.endpoint, error) ??
      (heard === undefined ? undefined : configErrorOf(link.endpoint, heard)) ??
      // Not all that is asked here goes by way of the store: a driver's own error is the store being away as well.
      withReason(storeError(link.endpoint, error), heard)
    );
  } finally {
    end();
  }
}

function withReason(error: IdempotencyStoreError, heard: unknown): IdempotencyStoreError {
  if (!(heard instanceof Error)) return error;
  const reason = heard.message || ('code' in heard ? String(heard.code) : heard.name);
  return error.message.includes(reason)
    ? error
    : new IdempotencyStoreError(`${error.message} The client says: ${reason}`);
}

/** Claims a probe twice: the second must be refused, and a completed one must have an end. */
async function tryOut(
  store: IdempotencyStore,
  link: RedisLink,
  settings: RedisStoreSettings,
  keyOf: (recordKey: string) => string,
): Promise<void> {
  const probe: ClaimRequest = {
    recordKey: `start-check-${randomUUID()}`,
    operation: 'start check',
    fingerprint: '',
    claimToken: randomUUID(),
    leaseMs: PROBE_MS,
    retentionMs: PROBE_MS,
    keepAbandoned: false,
    takeOver: false,
  };
  try {
    const first = await store.claim(probe);
    const second = await store.claim({ ...probe, claimToken: randomUUID() });
    const written = await store.complete(
      probe,
      { kept: true, status: null, headers: [], body: Buffer.of(0xff, 0) },
      PROBE_MS,
    );
    const found = await store.find(probe.recordKey);
    const key = keyOf(probe.recordKey);
    const left = await withDeadline(link.send(key, ['PTTL', key], settings.deadlineMs), settings.deadlineMs, 'PTTL');
    const body = found?.answer?.kept === true ? Buffer.from(found.answer.body).toString('hex') : undefined;
    const expected =
      first.kind === 'claimed' && second.kind === 'in_progress' && written === 'written' && body === 'ff00';
    if (!expected || typeof left !== 'number' || left <= 0 || left > PROBE_MS) {
      throw new IdempotencyConfigError(
        `redisStore: Redis (${link.endpoint}) does not behave as one (a claim: ${first.kind}, a second: ${second.kind}, completed: ${written}, its bytes: ${body}, expiry: ${String(left)}). Is the client a mock, or a proxy in between?`,
      );
    }
  } catch (error) {
    if (error instanceof IdempotencyStoreError && error.message.includes('an unexpected reply to a script')) {
      throw new IdempotencyConfigError(
        `redisStore: client did not answer a script as Redis does. Give a real client of ioredis or node-redis, not a mock. (${error.message})`,
      );
    }
    throw error;
  } finally {
    await store.forget(probe.recordKey).catch(() => undefined);
  }
}

/** Warns, or with `strict` refuses, where Redis may forget a record before its time. */
async function checkMemory(link: RedisLink, settings: RedisStoreSettings): Promise<void> {
  const masters = await withDeadline(
    link.masters(),
    settings.deadlineMs,
    `Redis (${link.endpoint}): the list of servers`,
  );
  const found = await Promise.all(masters.map((node) => risksOf(node, settings.deadlineMs)));
  const risks = found.flat();
  if (settings.strict && risks.length > 0) {
    throw new IdempotencyConfigError(`redisStore (strict: true): ${risks.join(' ')}`);
  }
  for (const risk of risks) settings.logger.warn(`redisStore: ${risk}`);
}

async function risksOf(node: RedisNode, deadlineMs: number): Promise<string[]> {
  const ask = async (section: string): Promise<string> =>
    String(await withDeadline(node.send(['INFO', section]), deadlineMs, `Redis (${node.name}): INFO`));
  let memory: string;
  let persistence: string;
  try {
    [memory, persistence] = await Promise.all([ask('memory'), ask('persistence')]);
  } catch {
    return [
      `Redis (${node.name}) does not answer INFO, so whether it keeps records cannot be checked. See to it that it has appendonly yes and maxmemory-policy noeviction.`,
    ];
  }
  const risks: string[] = [];
  if (!/^aof_enabled:1/m.test(persistence)) {
    risks.push(
      `Redis (${node.name}) has appendonly no: after a restart it has forgotten claims and completed records, and a retry runs again. Set appendonly yes.`,
    );
  }
  const policy = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1];
  if (!/^maxmemory:0\s*$/m.test(memory) && policy !== 'noeviction') {
    risks.push(
      `Redis (${node.name}) has maxmemory-policy ${policy ?? 'unknown'}: when memory is short it removes records, and a retry runs again. Set maxmemory-policy noeviction, or give the store a Redis of its own.`,
    );
  }
  return risks;
}
