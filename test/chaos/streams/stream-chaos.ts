import { setTimeout as sleep } from 'node:timers/promises';
import type { Edit } from '../build.js';
import { Cluster } from '../cluster.js';
import { Nemesis, plan, type FaultKind } from '../nemesis.js';
import { checkStreams } from './check.js';
import type { ReadingEvent, StreamEvent, StreamHistory, Violation } from './history.js';
import { Readers } from './readers.js';

export interface StreamChaosOptions {
  readonly store: 'postgres' | 'redis';
  readonly mode: 'block' | 'rerun';
  readonly seconds: number;
  readonly seed: number;
  readonly apps?: number;
  readonly readers?: number;
  readonly faults?: readonly FaultKind[];
  readonly crash?: number;
  readonly cut?: number;
  readonly edits?: readonly Edit[];
  readonly signal?: AbortSignal;
  readonly say?: (what: string) => void;
}

export interface StreamChaosResult {
  readonly history: StreamHistory;
  readonly violations: readonly Violation[];
  readonly faults: ReadonlyMap<string, number>;
  readonly windows: readonly { readonly name: string; readonly hits: number; readonly atLeast: number }[];
}

const LEASE_MS = 1_000;
const PURGE_MS = 200;
/** A reader gives up then: a frozen process, its lease, a store that is away and a busy machine come together. */
const PATIENCE_MS = 30_000;

/** One run: streams that are read, dropped and resumed under faults; then all is healed, and each is read once more. */
export async function runStreamChaos(options: StreamChaosOptions): Promise<StreamChaosResult> {
  const { store, mode, seconds, seed, edits, apps = 4, readers = 16, say = () => undefined } = options;
  const signal = options.signal ?? new AbortController().signal;
  const cluster = await Cluster.start({
    ...{ store, mode, apps, seed, entry: 'test/chaos/streams/app.ts', leaseMs: LEASE_MS, deadlineMs: 600 },
    ...{ briefMs: 0, purgeMs: PURGE_MS, secret: '', crash: options.crash ?? 0.001, cut: options.cut ?? 0.002 },
    ...(edits && { edits }),
  });
  // Servers are children that keep no process alive; waiting for one to stop must not end this one.
  const alive = setInterval(() => undefined, 1_000);
  try {
    const load = new Readers(cluster, seed, PATIENCE_MS);
    const nemesis = new Nemesis(cluster, signal);
    const enough = new AbortController();
    const stop = (): void => enough.abort();
    const timer = setTimeout(stop, seconds * 1_000);
    signal.addEventListener('abort', stop, { once: true });
    say(`streams and faults for ${seconds} s (${store}, ${mode}, seed ${seed})`);
    const faults = options.faults?.length === 0 ? [] : plan(seed, seconds, apps, LEASE_MS, options.faults);
    await Promise.all([load.run(readers, enough.signal), nemesis.run(faults)]);
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    signal.throwIfAborted();
    say('healing');
    cluster.becomeCalm();
    await cluster.allUp();
    await sleep(3 * LEASE_MS, undefined, { signal }).catch(() => undefined);
    say(`reading each of ${load.used.length} streams once more`);
    await load.finish(readers, signal);
    signal.throwIfAborted();
    // The ledger's lines are of this run's kinds.
    const told = (await cluster.events()) as unknown as StreamEvent[];
    const history: StreamHistory = { mode, events: [...told, ...load.events] };
    const violations = checkStreams(history);
    return { history, violations, windows: countWindows(history, seconds), faults: nemesis.counts };
  } finally {
    await cluster.stop();
    clearInterval(alive);
  }
}

/**
 * How often what matters has happened: a run that never hit it has proved nothing about it. As with requests, the least
 * number is a fifth or less of what a quiet machine comes to: how much a run gets done is for the machine to say.
 */
function countWindows({ mode, events }: StreamHistory, seconds: number): StreamChaosResult['windows'] {
  const readings = events.filter((event): event is ReadingEvent => event.type === 'reading');
  const count = (is: (reading: ReadingEvent) => boolean): number => readings.filter(is).length;
  const crashes = events.filter((event) => event.type === 'mark' && event.what.startsWith('crash')).length;
  const times = (perMinute: number): number => Math.floor((perMinute * seconds) / 60);
  const live = (reading: ReadingEvent): boolean => reading.standing === 'live' && reading.items.length > 0;
  return [
    { name: 'streams that were read', hits: count(({ items }) => items.length > 0), atLeast: times(60) },
    { name: 'left in the middle', hits: count(({ end }) => end === 'left'), atLeast: times(20) },
    {
      name: 'resumed from a cursor',
      hits: count(({ cursor, items }) => !!cursor && items.length > 0),
      atLeast: times(10),
    },
    { name: 'followed or produced live', hits: count(live), atLeast: times(20) },
    { name: 'cut with their process', hits: count(({ end, final }) => end === 'cut' && !final), atLeast: times(5) },
    { name: 'told of an interruption', hits: count(({ end }) => end === 'interrupted'), atLeast: times(5) },
    { name: 'ended by a failure of the source', hits: count(({ end }) => end === 'failed'), atLeast: times(4) },
    { name: 'read to a clean end', hits: count(({ end }) => end === 'clean'), atLeast: times(20) },
    { name: 'producers that killed themselves', hits: crashes, atLeast: times(3) },
    {
      name: 'came back with a cursor of an earlier attempt',
      hits: count((reading) => isOutOfDate(reading, events)),
      atLeast: mode === 'rerun' ? times(10) : 0,
    },
  ];
}

/** Whether a later attempt than that of its cursor had begun when it was asked. */
function isOutOfDate({ key, cursor, from }: ReadingEvent, events: readonly StreamEvent[]): boolean {
  const attempt = Number(cursor?.split('.')[1]);
  return events.some(
    (event) => event.type === 'call' && event.key === key && event.attempt > attempt && event.at < from,
  );
}
