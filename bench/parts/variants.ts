import type { Adapter } from '../server/settings.js';
import { startPeer, startServer, type BenchProcess, type Servers } from './process.js';

/** The processes of one session, by what runs in them. */
export type ServerName =
  'bare' | 'passing' | 'untouched' | 'memory' | 'postgres' | 'second' | 'redis' | 'peer' | 'peerBare';

/** A way to ask a server, and what to call it. */
export interface Variant {
  readonly name: string;
  readonly label: string;
  readonly server: ServerName;
  readonly path: string;
  readonly keys: 'new' | 'few';
  readonly replayed: boolean;
  /** The requests are those of the slice before, sent to another process. */
  readonly again?: boolean;
}

const asNew = (name: string, label: string, server: ServerName, path = '/orders'): Variant => ({
  ...{ name, label, server, path },
  keys: 'new',
  replayed: false,
});

export const BARE = asNew('bare', 'bare handler', 'bare');

/** Variants that are compared with the same slices of the bare handler: the one before, and the one after. */
export const GROUPS: readonly (readonly Variant[])[] = [
  [
    asNew('passing', 'bare handler behind a global interceptor that does nothing', 'passing'),
    asNew('undecorated', 'route without @Idempotent()', 'untouched', '/plain'),
    { ...asNew('hotReplay', 'hot replay', 'postgres'), keys: 'few', replayed: true },
  ],
  [
    asNew('postgres', 'new key on Postgres', 'postgres'),
    {
      ...asNew('firstReplay', 'replay from Postgres, first time in this process', 'second'),
      replayed: true,
      again: true,
    },
  ],
  [
    asNew('redis', 'new key on Redis', 'redis'),
    asNew('peer', '@node-idempotency/nestjs on Redis, new key', 'peer'),
    asNew('peerBare', "bare handler on the peer's Nest", 'peerBare'),
  ],
  [asNew('memory', 'new key in memory', 'memory')],
];

export class Session {
  private constructor(private readonly running: Map<ServerName, BenchProcess>) {}

  static async start(adapter: Adapter, servers: Servers): Promise<Session> {
    const running = new Map<ServerName, BenchProcess>();
    const session = new Session(running);
    const add = async (name: ServerName, starting: Promise<BenchProcess>): Promise<void> => {
      running.set(name, await starting);
    };
    const first = [
      add('bare', startServer(adapter, 'none', servers)),
      add('passing', startServer(adapter, 'passing', servers)),
      // Its store stays empty: hundreds of thousands of records in a process's memory slow down all that it does.
      add('untouched', startServer(adapter, 'memory', servers)),
      add('memory', startServer(adapter, 'memory', servers)),
      add('postgres', startServer(adapter, 'postgres', servers)),
    ];
    try {
      await Promise.all(first);
      // After the first one on Postgres: that one makes the table.
      const rest = [add('second', startServer(adapter, 'postgres', servers))];
      if (servers.redisUrl !== undefined) {
        rest.push(add('redis', startServer(adapter, 'redis', servers)));
        rest.push(add('peerBare', startPeer(adapter, 'none', servers)));
        rest.push(add('peer', startPeer(adapter, 'redis', servers)));
      }
      await Promise.all(rest);
      return session;
    } catch (error) {
      await session.stop();
      throw error;
    }
  }

  /** Undefined where there is no Redis to run it on. */
  server(name: ServerName): BenchProcess | undefined {
    return this.running.get(name);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.running.values()].map((server) => server.stop()));
  }
}
