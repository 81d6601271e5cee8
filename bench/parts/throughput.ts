import type { Adapter } from '../server/settings.js';
import type { RoundResult } from '../load/rounds.js';
import { median, spreadOf, type Spread } from '../report/statistics.js';
import { checked, round, type Bench } from './bench.js';
import { BARE, GROUPS, type Session, type Variant } from './variants.js';

/** Connections of the store's own pool, and of the load: the driver's limit is taken with both. */
const STORE_CONNECTIONS = 4;

interface Slice {
  readonly perSecond: number;
  readonly cpuMicros: number | undefined;
  /** To the bare handler beside it. */
  readonly toBare: number;
}

export interface ThroughputRow {
  readonly name: string;
  readonly label: string;
  readonly perSecond: Spread;
  /** To the bare handler, slice by slice. */
  readonly toBare: Spread;
  /** Microseconds of the server process a request; none where there is no server. */
  readonly cpuMicros: number | undefined;
}

export interface Throughput {
  readonly adapter: Adapter;
  readonly rows: readonly ThroughputRow[];
  /** Ratios between two variants of one round. */
  readonly pairs: Readonly<Record<string, Spread>>;
}

/** Two variants whose ratio is of interest, both measured within seconds in each round. */
const PAIRS: readonly (readonly [string, string])[] = [
  ['undecorated', 'passing'],
  ['postgres', 'driver'],
  ['postgres', 'driverMany'],
  ['redis', 'peer'],
];

const DRIVER: readonly (readonly [name: string, label: string])[] = [
  ['driver', `driver's limit: claim + complete one by one, ${STORE_CONNECTIONS} connections`],
  ['driverMany', "driver's limit, as many connections as the load has"],
];

export type Slices = Map<string, Slice[]>;

export function throughputOf(adapter: Adapter, slices: Slices): Throughput {
  return { adapter, rows: rowsOf(slices), pairs: pairsOf(slices) };
}

/** All rounds of one session. */
export class SessionRun {
  private readonly keysOf = { prefix: '', sent: 0 };

  constructor(
    private readonly bench: Bench,
    private readonly session: Session,
    private readonly id: string,
  ) {}

  async addTo(slices: Slices): Promise<void> {
    await this.warmUp();
    for (let n = 0; n < this.bench.scale.rounds; n += 1) {
      for (const [name, slice] of await this.round(n)) slices.set(name, [...(slices.get(name) ?? []), slice]);
    }
  }

  private async warmUp(): Promise<void> {
    const { warmUpSeconds, warmUpRequests } = this.bench.scale;
    for (const variant of [BARE, ...GROUPS.flat()]) {
      if (variant.name === 'hotReplay') await this.record('warm');
      await this.slice(variant, 'warm', warmUpSeconds, warmUpRequests);
    }
    await this.pairs(STORE_CONNECTIONS, this.bench.scale.sliceSeconds);
  }

  /** Every variant once, each group between two slices of the bare handler. */
  private async round(n: number): Promise<Map<string, Slice>> {
    const { sliceSeconds, connections } = this.bench.scale;
    const slices = new Map<string, Slice>();
    let before = await this.slice(BARE, `${n}`, sliceSeconds);
    slices.set(BARE.name, { ...before!, toBare: 1 });
    // Another order each time, so that no variant always follows the same one.
    const groups = GROUPS.map((_, index) => GROUPS[(index + n) % GROUPS.length]!);
    for (const [index, group] of groups.entries()) {
      const found: [string, Omit<Slice, 'toBare'>][] = [];
      for (const variant of group) {
        if (variant.name === 'hotReplay') await this.record(`${n}`);
        const slice = await this.slice(variant, `${n}`, sliceSeconds);
        if (slice) found.push([variant.name, slice]);
        if (variant.name === 'postgres') {
          found.push(['driver', await this.pairs(STORE_CONNECTIONS, sliceSeconds)]);
          found.push(['driverMany', await this.pairs(connections, sliceSeconds)]);
        }
      }
      const after = await this.slice(BARE, `${n}-${index}`, sliceSeconds);
      const bare = (before!.perSecond + after!.perSecond) / 2;
      for (const [name, slice] of found) slices.set(name, { ...slice, toBare: slice.perSecond / bare });
      before = after;
    }
    return slices;
  }

  /** Undefined where the variant does not run on this machine. */
  private async slice(
    variant: Variant,
    name: string,
    seconds: number,
    amount?: number,
  ): Promise<Omit<Slice, 'toBare'> | undefined> {
    const server = this.session.server(variant.server);
    if (!server) return undefined;
    const { load, scale } = this.bench;
    const prefix = variant.again ? this.keysOf.prefix : `${this.id}-${name}-${variant.name}`;
    const length = variant.again ? { amount: this.keysOf.sent } : { seconds, ...(amount !== undefined && { amount }) };
    const cpuBefore = await server.ask<number>('cpu');
    const { path, keys: kind, replayed } = variant;
    const result = await round(load, variant.label, {
      ...{ kind: 'http', url: server.url, path, connections: scale.connections, replayed },
      ...length,
      keys: { kind, prefix: kind === 'few' ? `${this.id}-${name}-few` : prefix },
    });
    const cpu = (await server.ask<number>('cpu')) - cpuBefore;
    if (variant.name === 'postgres') Object.assign(this.keysOf, { prefix, sent: result.count });
    return { perSecond: perSecond(result), cpuMicros: cpu / result.count };
  }

  /** Gives the keys that are replayed hot their records. */
  private async record(name: string): Promise<void> {
    const server = this.session.server('postgres')!;
    await round(this.bench.load, 'records to replay', {
      ...{ kind: 'http', url: server.url, path: '/orders', connections: 8, amount: 64, replayed: false },
      keys: { kind: 'new', prefix: `${this.id}-${name}-few` },
    });
  }

  private async pairs(connections: number, seconds: number): Promise<Omit<Slice, 'toBare'>> {
    const { database, servers } = this.bench;
    const asked = { url: servers.postgresUrl, connections, seconds };
    const result = checked('the statements alone', await database.ask<RoundResult>('pairs', asked));
    return { perSecond: perSecond(result), cpuMicros: undefined };
  }
}

const perSecond = ({ count, seconds }: RoundResult): number => count / seconds;

function rowsOf(slices: ReadonlyMap<string, readonly Slice[]>): ThroughputRow[] {
  const labels = [BARE, ...GROUPS.flat()].map(({ name, label }) => [name, label] as const);
  return [...labels, ...DRIVER].flatMap(([name, label]) => {
    const found = slices.get(name);
    if (!found) return [];
    const cpu = found.flatMap(({ cpuMicros }) => cpuMicros ?? []);
    return {
      ...{ name, label },
      perSecond: spreadOf(found.map((slice) => slice.perSecond)),
      toBare: spreadOf(found.map((slice) => slice.toBare)),
      cpuMicros: cpu.length > 0 ? median(cpu) : undefined,
    };
  });
}

function pairsOf(slices: ReadonlyMap<string, readonly Slice[]>): Record<string, Spread> {
  const pairs: Record<string, Spread> = {};
  for (const [one, other] of PAIRS) {
    const others = slices.get(other);
    const ones = slices.get(one);
    if (!ones || !others) continue;
    pairs[`${one}/${other}`] = spreadOf(ones.map((slice, index) => slice.perSecond / others[index]!.perSecond));
  }
  return pairs;
}
