import type { Writable } from 'node:stream';
import { gatherWrites } from './redis.gather.js';
import { keySlot } from './redis.slot.js';
import type { RedisArgument } from './redis.client-types.js';
import type { HintListener, RedisLink, Send } from './redis.link.js';

/** The parts of ioredis that are used. */
interface Connection {
  callBuffer(command: string, args: RedisArgument[]): Promise<unknown>;
  on(event: string, listener: (...args: never[]) => void): unknown;
  off(event: string, listener: (...args: never[]) => void): unknown;
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  disconnect(): void;
  readonly status: string;
  /** The socket; none before the first attempt to connect, and none of a cluster's own. */
  readonly stream?: Writable | null;
  readonly options: ConnectionOptions;
}

interface ConnectionOptions {
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
  readonly name?: string;
  readonly sentinels?: readonly { host?: string; port?: number }[] | null;
  readonly keyPrefix?: string;
}

interface Single extends Connection {
  duplicate(override: object): Single;
}

interface Cluster extends Connection {
  readonly isCluster: true;
  readonly slots: readonly (readonly string[] | undefined)[];
  nodes(role: 'master'): Connection[];
  duplicate(startupNodes: [], override: object): Cluster;
}

export function isIoredis(client: unknown): client is Single | Cluster {
  const c = client as Partial<Record<keyof Cluster, unknown>> | null | undefined;
  return (
    typeof c === 'object' &&
    c !== null &&
    typeof c.callBuffer === 'function' &&
    typeof c.duplicate === 'function' &&
    typeof c.on === 'function' &&
    typeof c.off === 'function' &&
    typeof c.status === 'string'
  );
}

export function ioredisLink(client: Single | Cluster): RedisLink {
  return isCluster(client) ? clusterLink(client) : singleLink(client);
}

function isCluster(client: Single | Cluster): client is Cluster {
  return 'isCluster' in client && client.isCluster === true;
}

type Method = (...args: RedisArgument[]) => Promise<unknown>;

// By the command's own method where there is one: with `enableAutoPipelining`, `callBuffer` fails
// inside the library (5.11). In lower case, because the library finds a command's keys, and with
// them the slot and the keyPrefix, by this name.
function sender(connection: Connection): Send {
  return ([command, ...args]) => {
    gatherWrites(connection.stream);
    const name = String(command).toLowerCase();
    const method = (connection as unknown as Record<string, Method | undefined>)[`${name}Buffer`];
    return method ? method.apply(connection, args) : connection.callBuffer(name, args);
  };
}

function singleLink(client: Single): RedisLink {
  const send = sender(client);
  const endpoint = where(client.options);
  return {
    endpoint,
    notConnected: false,
    send: (_key, args) => send(args),
    session: (_key, use) => use(send),
    masters: () => Promise.resolve([{ name: endpoint, send }]),
    listen: async (channel, listener) =>
      hear(
        client.duplicate({
          lazyConnect: false,
          enableOfflineQueue: true,
          // Hints are worth waiting for: this connection never gives up, whatever the client's own does.
          retryStrategy: backOff,
          maxRetriesPerRequest: null,
          autoResubscribe: false,
          keyPrefix: '',
        }),
        channel,
        listener,
      ),
    listenHere: async (channel, listener) => hearHere(client, channel, listener),
    onError: (listener) => onEvent(client, 'error', listener),
  };
}

function clusterLink(client: Cluster): RedisLink {
  const send = sender(client);
  return {
    get endpoint() {
      const names = client.nodes('master').map((node) => where(node.options));
      return names.length === 0 ? 'the cluster' : `the cluster of ${names.join(', ')}`;
    },
    notConnected: false,
    send: (_key, args) => send(args),
    session: async (key, use) => {
      const owner = client.slots[keySlot(key)]?.[0];
      const node = client.nodes('master').find(({ options }) => `${options.host}:${options.port}` === owner);
      if (!node) throw new Error(`No node of the cluster is known for the slot of this record.`);
      return use(sender(node));
    },
    ...(client.options.keyPrefix
      ? { noSession: "the cluster client's keyPrefix is not known to its nodes; use the store's own prefix instead" }
      : {}),
    masters: () =>
      Promise.resolve(client.nodes('master').map((node) => ({ name: where(node.options), send: sender(node) }))),
    listen: async (channel, listener) =>
      hear(
        client.duplicate([], {
          lazyConnect: false,
          enableOfflineQueue: true,
          clusterRetryStrategy: backOff,
          keyPrefix: '',
        }),
        channel,
        listener,
      ),
    listenHere: async (channel, listener) => hearHere(client, channel, listener),
    onError: (listener) => onEvent(client, 'error', listener),
  };
}

function backOff(times: number): number {
  return Math.min(50 * times, 2_000);
}

function where(options: ConnectionOptions): string {
  if (options.sentinels?.length) {
    const sentinels = options.sentinels.map(({ host, port }) => `${host ?? 'localhost'}:${port ?? 26379}`);
    return `master '${options.name ?? ''}' of the sentinels ${sentinels.join(', ')}`;
  }
  return options.path ?? `${options.host ?? 'localhost'}:${options.port ?? 6379}`;
}

function onEvent(connection: Connection, event: string, listener: (...args: never[]) => void): () => void {
  connection.on(event, listener);
  return () => void connection.off(event, listener);
}

/** Hears hints on a connection that is ours. */
function hear(connection: Connection, channel: string, listener: HintListener): () => void {
  // Without a listener the library prints each failed attempt; the waiters poll meanwhile.
  connection.on('error', () => undefined);
  const end = attach(connection, channel, listener);
  return () => {
    end();
    connection.disconnect();
  };
}

/** Hears hints on the application's connection, and leaves it as it was. */
function hearHere(connection: Connection, channel: string, listener: HintListener): () => void {
  const end = attach(connection, channel, listener);
  return () => {
    end();
    connection.unsubscribe(channel).catch(() => undefined);
  };
}

function attach(connection: Connection, channel: string, listener: HintListener): () => void {
  let before = false;
  // Subscribed anew after each reconnect, and only then reported: a hint in between is made up for.
  const subscribe = (): void => {
    connection.subscribe(channel).then(
      () => {
        if (before) listener.onReconnect();
        before = true;
      },
      () => undefined,
    );
  };
  const ends = [
    onEvent(connection, 'ready', subscribe),
    onEvent(connection, 'message', (from: string, message: string) => {
      if (from === channel) listener.onMessage(message);
    }),
  ];
  if (connection.status === 'ready') subscribe();
  return () => ends.forEach((end) => end());
}
