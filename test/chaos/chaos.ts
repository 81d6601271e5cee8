import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { random } from '../simulation/random.js';
import { dump, leaks } from './aftermath.js';
import { PURCHASE_TABLES } from './app/purchases.js';
import type { Edit } from './build.js';
import { check } from './checker/check.js';
import type { Event, History, Mode, Settings, Violation } from './checker/history.js';
import { Client, PLANTED_SECRET } from './client.js';
import { Cluster } from './cluster.js';
import { Load } from './load.js';
import { Nemesis, plan, type FaultKind } from './nemesis.js';
import type { Preparation } from './store-server.js';
import { countWindows, type WindowCount } from './windows.js';
import { OPERATIONS, Workload } from './workload.js';

export interface ChaosOptions {
  readonly store: 'postgres' | 'redis';
  readonly mode: Mode;
  readonly seconds: number;
  readonly seed: number;
  readonly apps?: number;
  readonly clients?: number;
  /** Kinds of faults; all by default. */
  readonly faults?: readonly FaultKind[];
  readonly crash?: number;
  readonly cut?: number;
  readonly edits?: readonly Edit[];
  readonly prepare?: Preparation;
  readonly leaseMs?: number;
  readonly signal?: AbortSignal;
  readonly say?: (what: string) => void;
  /** Called with the history before it is judged: whatever the judge makes of it, it is there to be looked at. */
  readonly keep?: (history: History) => void;
}

export interface ChaosResult {
  readonly history: History;
  readonly violations: readonly Violation[];
  readonly windows: readonly WindowCount[];
  readonly faults: ReadonlyMap<string, number>;
}

const LEASE_MS = 1_000;
const BRIEF_MS = 2_000;
const PURGE_MS = 200;
/** How much later than promised something may be seen, on a busy machine. */
const GRACE_MS = 1_500;
const LONG_MS = 3_600_000;
/** How much longer than planned a part of a run may take, on a busy machine. */
const PATIENCE_MS = 60_000;

/**
 * One run: load and faults; then all is healed; then, when every lease and purge has had its time,
 * each key is asked for once more; then the store's content is written down, and all of it is checked.
 * @throws where a part fails, and where the signal comes; nothing is left behind in either case
 */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  // Servers are children that keep no process alive; waiting for one to start or stop must not end this one.
  const alive = setInterval(() => undefined, 1_000);
  try {
    return await runOnCluster(options);
  } finally {
    clearInterval(alive);
  }
}

async function runOnCluster(options: ChaosOptions): Promise<ChaosResult> {
  const {
    store,
    mode,
    seconds,
    seed,
    edits,
    prepare,
    apps = 4,
    clients = 16,
    leaseMs = LEASE_MS,
    say = () => undefined,
  } = options;
  const signal = options.signal ?? new AbortController().signal;
  signal.throwIfAborted();
  const deadlineMs = Math.round(leaseMs * 0.6);
  const secret = randomBytes(16).toString('hex');
  const settings: Settings = {
    ...{ store, mode, leaseMs, purgeMs: PURGE_MS, graceMs: GRACE_MS, deadlineMs, secret },
    retentions: { [OPERATIONS.charges]: LONG_MS, [OPERATIONS.joined]: LONG_MS, [OPERATIONS.brief]: BRIEF_MS },
  };
  const cluster = await Cluster.start({
    ...{ store, mode, apps, leaseMs, secret, seed, briefMs: BRIEF_MS, purgeMs: PURGE_MS },
    ...{ deadlineMs, crash: options.crash ?? 0.002, cut: options.cut ?? 0.01 },
    ...(edits && { edits }),
    prepare: mode === 'transaction' ? { ...prepare, sql: PURCHASE_TABLES } : (prepare ?? {}),
  });
  const client = new Client(4 * leaseMs);
  try {
    signal.throwIfAborted();
    const marker = `marker${randomBytes(6).toString('hex')}`;
    const load = new Load(cluster, client, new Workload(random(seed), marker, leaseMs), mode, seed);
    const nemesis = new Nemesis(cluster, signal);
    say(`load and faults for ${seconds} s (${store}, ${mode}, seed ${seed})`);
    const enough = endAfter(seconds * 1_000, signal);
    const faults = plan(seed, seconds, apps, leaseMs, options.faults);
    await within(seconds * 1_000 + PATIENCE_MS, Promise.all([load.run(clients, enough), nemesis.run(faults)]), () => {
      return `Load and faults do not end: ${load.underWay} requests under way, faults at ${nemesis.underHand}.`;
    });
    signal.throwIfAborted();
    say('healing');
    cluster.becomeCalm();
    await within(PATIENCE_MS, cluster.allUp(), () => `Not all servers come up again.\n${cluster.lastOutput}`);
    await sleep(3 * leaseMs + 2 * PURGE_MS, undefined, { signal }).catch(() => undefined);
    say(`asking for each of ${load.used.size} keys once more`);
    await load.finish(32, signal);
    signal.throwIfAborted();
    const events: Event[] = [
      ...(await dump(
        cluster,
        load.used,
        mode,
        store === 'postgres' ? BRIEF_MS + 2 * PURGE_MS + 2 * GRACE_MS : 0,
        signal,
      )),
      ...(await leaks(cluster, [marker, PLANTED_SECRET, 'planted-cookie'])),
      ...(await cluster.events()),
      ...load.events,
    ];
    const history = { settings, events };
    options.keep?.(history);
    say(`checking ${events.length} events`);
    return { history, violations: check(history), windows: countWindows(history, seconds), faults: nemesis.counts };
  } finally {
    client.close();
    await cluster.stop();
  }
}

/** Aborted after a time, or with the other one. (Of `AbortSignal.any`, Node 20 may collect the timeout as garbage.) */
function endAfter(ms: number, other: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const stop = (): void => {
    clearTimeout(timer);
    other.removeEventListener('abort', stop);
    controller.abort();
  };
  const timer = setTimeout(stop, ms);
  other.addEventListener('abort', stop);
  return controller.signal;
}

/** The same promise, but a run that would never end fails and says where it stands. */
async function within<T>(ms: number, work: Promise<T>, describe: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const tooLong = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(describe())), ms);
  });
  try {
    return await Promise.race([work, tooLong]);
  } finally {
    clearTimeout(timer);
  }
}
