import type { Adapter } from '../server/settings.js';
import { round, type Bench } from './bench.js';
import { BARE, GROUPS, type Session } from './variants.js';

export interface LatencyRow {
  readonly name: string;
  readonly label: string;
  /** Milliseconds from the moment at which a request was due. */
  readonly p50: number;
  readonly p99: number;
}

export interface Latency {
  readonly adapter: Adapter;
  readonly perSecond: number;
  readonly rows: readonly LatencyRow[];
}

const MEASURED: ReadonlySet<string> = new Set(['bare', 'memory', 'postgres', 'redis', 'peer']);

/** What a request takes while the server is far from its limit. */
export async function measureLatency(bench: Bench, adapter: Adapter, session: Session): Promise<Latency> {
  const { latencyRate: perSecond, latencySeconds: seconds, connections } = bench.scale;
  bench.say(`${adapter}: latency at ${perSecond} requests a second`);
  const rows: LatencyRow[] = [];
  for (const { name, label, server, path } of [BARE, ...GROUPS.flat()]) {
    const url = session.server(server)?.url;
    if (url === undefined || !MEASURED.has(name)) continue;
    const { p50, p99 } = await round(bench.load, label, {
      ...{ kind: 'http', url, path, connections, perSecond, seconds, replayed: false },
      keys: { kind: 'new', prefix: `latency-${adapter}-${name}` },
    });
    rows.push({ name, label, p50, p99 });
  }
  return { adapter, perSecond, rows };
}
