import { IdempotencyConfigError } from '../../core/errors.js';
import { isIoredis, ioredisLink } from './redis.ioredis.js';
import { isNodeRedis, nodeRedisLink } from './redis.node-redis.js';
import type { RedisArgument } from './redis.client-types.js';

/** Sends one command over one connection; texts come back as Buffers. */
export type Send = (args: RedisArgument[]) => Promise<unknown>;

/** One server that takes writes. */
export interface RedisNode {
  readonly name: string;
  readonly send: Send;
}

/** What hears the hints. */
export interface HintListener {
  /** A message on the channel. */
  onMessage(message: string): void;
  /** The connection is there again: hints may have been missed. */
  onReconnect(): void;
  /** The connection was given up for good. */
  onEnd(): void;
}

/** The two client libraries, in all their kinds, behind one face. */
export interface RedisLink {
  /** Host and port, or the cluster's; never a password. */
  readonly endpoint: string;
  /** Set where the application has yet to connect the client (node-redis does not by itself). */
  readonly notConnected: boolean;
  /** Sends a command to the server that owns `key`. A command that was not sent after `dropAfterMs` may be dropped. */
  send(key: string, args: RedisArgument[], dropAfterMs: number): Promise<unknown>;
  /** Runs `use` with a `send` that is bound to the server that owns `key`, as far as can be to one connection. */
  session<T>(key: string, use: (send: Send) => Promise<T>): Promise<T>;
  /** Why `session` cannot be relied on with this client, if so. */
  readonly noSession?: string;
  /** The servers that take writes. */
  masters(): Promise<RedisNode[]>;
  /** Opens a connection of its own for hints. Rejects where the client cannot be duplicated. */
  listen(channel: string, listener: HintListener): Promise<() => void>;
  /** As `listen`, on this connection itself, which stays open at the end. */
  listenHere(channel: string, listener: HintListener): Promise<() => void>;
  /** Hears the client's connection errors, which it tells to nobody else. Returns the end. */
  onError(listener: (error: unknown) => void): () => void;
}

/** @throws IdempotencyConfigError for anything but a client of the two libraries */
export function linkTo(client: unknown, option: string): RedisLink {
  if (isIoredis(client)) return ioredisLink(client);
  if (isNodeRedis(client)) return nodeRedisLink(client, option);
  throw new IdempotencyConfigError(
    `redisStore: ${option} is ${describe(client)}. Give a client of ioredis (new Redis(…), new Cluster(…)) or of node-redis 5 or newer (createClient, createClientPool, createCluster or createSentinel), not its options, its URL or a mock.`,
  );
}

function describe(value: unknown): string {
  if (typeof value === 'string') return 'a string';
  if (value === null || typeof value !== 'object') return String(value);
  const name = (value.constructor as { name?: string } | undefined)?.name;
  return name && name !== 'Object' ? `an object of class ${name}` : 'a plain object';
}
