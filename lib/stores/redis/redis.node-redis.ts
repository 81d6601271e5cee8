import { IdempotencyConfigError } from '../../core/errors.js';
import { keySlot } from './redis.slot.js';
import type { RedisArgument } from './redis.client-types.js';
import type { HintListener, RedisLink, RedisNode, Send } from './redis.link.js';

/** Replies of the type "blob string" (`$`) as Buffers: a body is bytes, not text. */
const OPTIONS = { typeMapping: { 36: Buffer } };

type Options = typeof OPTIONS & { timeout?: number };

interface Emitter {
  on(event: string, listener: (...args: never[]) => void): unknown;
  off(event: string, listener: (...args: never[]) => void): unknown;
}

interface Subscriber extends Emitter {
  connect(): Promise<unknown>;
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
  unsubscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
  destroy(): unknown;
}

interface Base extends Emitter {
  withTypeMapping(mapping: object): unknown;
  readonly isOpen: boolean;
}

interface SocketOptions {
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
}

interface Single extends Base, Subscriber {
  sendCommand(args: RedisArgument[], options: Options): Promise<unknown>;
  duplicate(override?: object): Single;
  readonly options?: { readonly url?: string; readonly socket?: SocketOptions };
}

interface Pool extends Base {
  sendCommand(args: RedisArgument[], options: Options): Promise<unknown>;
  execute<T>(task: (client: Single) => Promise<T>): Promise<T>;
  readonly totalClients: number;
}

interface Cluster extends Base, Subscriber {
  sendCommand(key: RedisArgument, isReadonly: boolean, args: RedisArgument[], options: Options): Promise<unknown>;
  readonly masters: readonly { readonly address: string }[];
  readonly slots: readonly ({ readonly master: { readonly address: string } } | undefined)[];
  nodeClient(node: { readonly address: string }): Promise<Single> | Single;
  duplicate(override?: object): Cluster;
}

interface SentinelLease {
  sendCommand(isReadonly: boolean, args: RedisArgument[], options: Options): Promise<unknown>;
}

interface Sentinel extends Base, Subscriber, SentinelLease {
  use<T>(task: (client: SentinelLease) => Promise<T>): Promise<T>;
  getMasterNode(): { readonly host?: string; readonly port?: number } | undefined;
  duplicate(override?: object): Sentinel;
}

type NodeRedis = Single | Pool | Cluster | Sentinel;

/** node-redis 4 has no type mapping and would turn bodies into text, so it is none of these. */
export function isNodeRedis(client: unknown): client is NodeRedis {
  const c = client as (Partial<Record<keyof Single, unknown>> & object) | null | undefined;
  return (
    typeof c === 'object' &&
    c !== null &&
    typeof c.sendCommand === 'function' &&
    typeof c.withTypeMapping === 'function' &&
    typeof c.on === 'function' &&
    typeof c.isOpen === 'boolean'
  );
}

export function nodeRedisLink(client: NodeRedis, option: string): RedisLink {
  if ('nodeClient' in client && 'masters' in client) return clusterLink(client);
  if ('getMasterNode' in client && 'use' in client) return sentinelLink(client);
  if ('execute' in client && 'totalClients' in client) return poolLink(client);
  if ('duplicate' in client && 'subscribe' in client) return singleLink(client);
  throw new IdempotencyConfigError(
    `redisStore: ${option} looks like a client of node-redis, but of no kind that is known: createClient, createClientPool, createCluster or createSentinel.`,
  );
}

function sender(client: Single): Send {
  return (args) => client.sendCommand(args, OPTIONS);
}

function singleLink(client: Single): RedisLink {
  const endpoint = where(client.options);
  return {
    endpoint,
    get notConnected() {
      return !client.isOpen;
    },
    send: (_key, args, timeout) => client.sendCommand(args, { ...OPTIONS, timeout }),
    session: (_key, use) => use(sender(client)),
    masters: () => Promise.resolve([{ name: endpoint, send: sender(client) }]),
    listen: (channel, listener) => hear((over) => duplicateOf(client, over), channel, listener),
    listenHere: (channel, listener) => hearHere(client, channel, listener),
    onError: (listener) => onEvent(client, 'error', listener),
  };
}

function poolLink(client: Pool): RedisLink {
  return {
    endpoint: 'the pool',
    get notConnected() {
      return !client.isOpen;
    },
    send: (_key, args, timeout) => client.sendCommand(args, { ...OPTIONS, timeout }),
    session: (_key, use) => client.execute((one) => use(sender(one))),
    masters: () => Promise.resolve([{ name: 'the pool', send: (args) => client.sendCommand(args, OPTIONS) }]),
    listen: (channel, listener) =>
      hear((over) => client.execute((one) => Promise.resolve(duplicateOf(one, over))), channel, listener),
    listenHere: () => Promise.reject(new Error('A pool cannot subscribe.')),
    onError: (listener) => onEvent(client, 'error', listener),
  };
}

function clusterLink(client: Cluster): RedisLink {
  const nodeOf = async (master: { readonly address: string }): Promise<RedisNode> => ({
    name: master.address,
    send: sender(await client.nodeClient(master)),
  });
  return {
    get endpoint() {
      const names = client.isOpen ? client.masters.map(({ address }) => address) : [];
      return names.length === 0 ? 'the cluster' : `the cluster of ${names.join(', ')}`;
    },
    get notConnected() {
      return !client.isOpen;
    },
    send: (key, args, timeout) => client.sendCommand(key, false, args, { ...OPTIONS, timeout }),
    session: async (key, use) => {
      const master = client.slots[keySlot(key)]?.master;
      if (!master) throw new Error('No node of the cluster is known for the slot of this record.');
      return use((await nodeOf(master)).send);
    },
    masters: () => Promise.all(client.masters.map(nodeOf)),
    listen: (channel, listener) => hear(() => client.duplicate(), channel, listener),
    listenHere: (channel, listener) => hearHere(client, channel, listener),
    onError: (listener) => onEvent(client, 'error', listener),
  };
}

function sentinelLink(client: Sentinel): RedisLink {
  const master = (): string => {
    const node = client.isOpen ? client.getMasterNode() : undefined;
    return node ? `the sentinels' master ${node.host}:${node.port}` : "the sentinels' master";
  };
  return {
    get endpoint() {
      return master();
    },
    get notConnected() {
      return !client.isOpen;
    },
    send: (_key, args, timeout) => client.sendCommand(false, args, { ...OPTIONS, timeout }),
    session: (_key, use) => client.use((lease) => use((args) => lease.sendCommand(false, args, OPTIONS))),
    masters: () => Promise.resolve([{ name: master(), send: (args) => client.sendCommand(false, args, OPTIONS) }]),
    listen: (channel, listener) => hear(() => client.duplicate(), channel, listener),
    listenHere: (channel, listener) => hearHere(client, channel, listener),
    onError: (listener) => onEvent(client, 'error', listener),
  };
}

/** A connection of the same kind for hints: it waits for the server however long that takes, until it is `over`. */
function duplicateOf(client: Single, over: () => boolean): Single {
  const reconnectStrategy = (times: number): number | false => !over() && Math.min(50 * (times + 1), 2_000);
  return client.duplicate({ socket: { ...client.options?.socket, reconnectStrategy }, disableOfflineQueue: false });
}

function where(options: Single['options']): string {
  const { host, port, path } = options?.socket ?? {};
  return path ?? `${host ?? 'localhost'}:${port ?? 6379}`;
}

function onEvent(client: Emitter, event: string, listener: (...args: never[]) => void): () => void {
  client.on(event, listener);
  return () => void client.off(event, listener);
}

/** Hears hints on a connection that is ours. The library subscribes anew by itself before it says `ready`. */
async function hear(
  make: (over: () => boolean) => Subscriber | Promise<Subscriber>,
  channel: string,
  listener: HintListener,
): Promise<() => void> {
  let over = false;
  const client = await make(() => over);
  let before = false;
  client.on('error', () => undefined);
  client.on('ready', () => {
    if (before) listener.onReconnect();
    before = true;
  });
  const connected = client.connect().then(() => {
    if (!over) return client.subscribe(channel, (message) => listener.onMessage(message));
  });
  const close = async (): Promise<void> => {
    over = true;
    // Destroyed while it connects, a client of this library leaves its socket open.
    await connected.catch(() => undefined);
    // One that never connected has nothing to close and says so by throwing.
    await Promise.resolve(client.destroy());
  };
  connected.catch(() => {
    if (!over) listener.onEnd();
    close().catch(() => undefined);
  });
  return () => void close().catch(() => undefined);
}

async function hearHere(client: Subscriber, channel: string, listener: HintListener): Promise<() => void> {
  const onMessage = (message: string): void => listener.onMessage(message);
  const onReady = (): void => listener.onReconnect();
  client.on('ready', onReady);
  await client.subscribe(channel, onMessage);
  return () => {
    client.off('ready', onReady);
    client.unsubscribe(channel, onMessage).catch(() => undefined);
  };
}
