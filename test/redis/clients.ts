import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster as IoredisCluster, Redis, type RedisOptions } from 'ioredis';
import { createClient, createClientPool, createCluster, createSentinel } from 'redis';
import { redisStore, type RedisStoreClient, type RedisStoreOptions } from '../../lib/stores/redis/index.js';
import type { StreamHead, StreamRef } from '../../lib/core/event-log.js';
import type { Claim, KeptAnswer } from '../../lib/core/record.js';
import type { ClaimRequest, IdempotencyStore } from '../../lib/core/store.js';

/** A client as an application would make it, and how that application ends it. */
export interface TestClient {
  readonly client: RedisStoreClient;
  close(): unknown;
}

export function ioredis(url: string, options: RedisOptions = {}): TestClient & { readonly client: Redis } {
  const client = new Redis(url, options);
  client.on('error', () => undefined);
  return { client, close: () => ended(client) };
}

/** An open one until it has ended: the library's timer for that outlives a test file that does not wait. */
async function ended(client: Redis | IoredisCluster): Promise<void> {
  const wasOpen = client.status === 'ready' && !client.isCluster;
  client.disconnect();
  if (wasOpen) await until(() => client.status === 'end');
}

export async function nodeRedis(url: string, options: object = {}): Promise<TestClient> {
  const client = createClient({ url, ...options });
  client.on('error', () => undefined);
  await client.connect();
  return { client, close: () => client.destroy() };
}

export async function nodeRedisPool(url: string): Promise<TestClient> {
  // The pool's own timer is not ended with it, and would keep the test process for three seconds.
  const client = createClientPool({ url }, { cleanupDelay: 100 });
  client.on('error', () => undefined);
  await client.connect();
  return { client, close: () => client.destroy() };
}

export function ioredisCluster(
  nodes: { host: string; port: number }[],
): TestClient & { readonly client: IoredisCluster } {
  const client = new IoredisCluster(nodes);
  client.on('error', () => undefined);
  return { client, close: () => ended(client) };
}

export async function nodeRedisCluster(nodes: { host: string; port: number }[]): Promise<TestClient> {
  const client = createCluster({ rootNodes: nodes.map(({ host, port }) => ({ url: `redis://${host}:${port}` })) });
  client.on('error', () => undefined);
  await client.connect();
  return { client, close: () => client.destroy() };
}

export async function nodeRedisSentinel(name: string, port: number): Promise<TestClient> {
  const client = createSentinel({ name, sentinelRootNodes: [{ host: '127.0.0.1', port }] });
  client.on('error', () => undefined);
  await client.connect();
  return { client, close: () => client.destroy() };
}

/** Ends everything a test has opened, stores before their clients. */
export class Opened {
  private readonly ends: (() => unknown)[] = [];

  /** A store on a client that ends with the test. */
  async store(
    client: TestClient | Promise<TestClient>,
    options: Partial<RedisStoreOptions> = {},
  ): Promise<IdempotencyStore> {
    const opened = await client;
    this.later(() => opened.close());
    const store = redisStore({ client: opened.client, logger: quiet, ...options });
    this.later(() => store.stop?.());
    return store;
  }

  later(end: () => unknown): void {
    this.ends.unshift(end);
  }

  async end(): Promise<void> {
    for (const end of this.ends.splice(0)) await end();
  }
}

export const quiet = { warn: () => undefined };

export function request(changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    recordKey: randomUUID(),
    operation: 'POST /charges',
    fingerprint: 'f1',
    claimToken: randomUUID(),
    leaseMs: 30_000,
    retentionMs: 60_000,
    keepAbandoned: true,
    takeOver: false,
    ...changes,
  };
}

/** The same request from another caller. */
export function again(first: ClaimRequest, changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return { ...first, claimToken: randomUUID(), ...changes };
}

export function answer(text: string): KeptAnswer {
  return { kept: true, status: 201, headers: [['content-type', 'text/plain']], body: Buffer.from(text) };
}

/** Claims, and insists on winning. */
export async function won(store: IdempotencyStore, asked: ClaimRequest): Promise<Claim> {
  const result = await store.claim(asked);
  if (result.kind !== 'claimed') throw new Error(`Not claimed but ${result.kind}`);
  return result.claim;
}

export const streamHead: StreamHead = { status: 200, headers: [['content-type', 'text/event-stream']] };

/** The stream as far as it is recorded, read page by page; the items must have their numbers. */
export async function allItems(
  store: IdempotencyStore,
  stream: StreamRef,
  maxBytes = 65_536,
): Promise<{ head: StreamHead; items: Uint8Array[] }> {
  const items: Uint8Array[] = [];
  for (;;) {
    const page = await store.events!.read(stream, items.length, maxBytes);
    if (!page) throw new Error('The stream is gone');
    for (const { seq, bytes } of page.items) {
      if (items.push(bytes) !== seq) throw new Error(`Item ${seq} where ${items.length} should be`);
    }
    if (items.length >= page.tail) return { head: page.head, items };
    if (page.items.length === 0) throw new Error('A page without an item before the end');
  }
}

/** Waits until `what` holds, and not for ever. */
export async function until(what: () => boolean | Promise<boolean>, withinMs = 10_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await what())) {
    if (performance.now() > end) throw new Error(`Not so within ${withinMs} ms: ${String(what)}`);
    await sleep(10);
  }
}
