import { spreadOf, type Spread } from '../report/statistics.js';
import type { Adapter } from '../server/settings.js';
import { round, type Bench } from './bench.js';
import type { ServerName, Session } from './variants.js';

export interface StreamRow {
  readonly server: ServerName;
  readonly eventsPerSecond: Spread;
  readonly toBare: Spread;
}

export interface StreamFigures {
  readonly adapter: Adapter;
  readonly streams: number;
  readonly rows: readonly StreamRow[];
}

const STREAMING: readonly ServerName[] = ['bare', 'memory', 'postgres', 'redis'];

/** Events a second over many event streams at once, beside those of the same handler without idempotency. */
export async function measureStreams(bench: Bench, adapter: Adapter, session: Session): Promise<StreamFigures> {
  const { streams, streamRounds } = bench.scale;
  bench.say(`${adapter}: ${streams} event streams at once`);
  const running = STREAMING.filter((name) => session.server(name) !== undefined);
  const rates = new Map<ServerName, number[]>(running.map((name) => [name, []]));
  // The first round of each warms it up.
  for (let n = -1; n < streamRounds; n += 1) {
    for (const name of running) {
      const rate = await eventsPerSecond(bench, session.server(name)!.url, `${adapter}-${name}-${n}`);
      if (n >= 0) rates.get(name)!.push(rate);
    }
  }
  const bare = rates.get('bare')!;
  const rows = running.map((server) => ({
    server,
    eventsPerSecond: spreadOf(rates.get(server)!),
    toBare: spreadOf(rates.get(server)!.map((rate, n) => rate / bare[n]!)),
  }));
  return { adapter, streams, rows };
}

async function eventsPerSecond({ load, scale }: Bench, url: string, prefix: string): Promise<number> {
  const { streams, eventsPerStream: events } = scale;
  const { count, seconds } = await round(load, `event streams of ${prefix}`, {
    ...{ kind: 'streams', url, path: '/chat', streams, events, prefix },
  });
  return count / seconds;
}
