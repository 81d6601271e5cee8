import { setTimeout as sleep } from 'node:timers/promises';
import { random } from '../simulation/random.js';
import { dump } from './aftermath.js';
import type { Event, StoreCallEvent } from './checker/history.js';
import { Client } from './client.js';
import { Cluster } from './cluster.js';
import { Load } from './load.js';
import { startRedisPair, type RedisPair } from './redis-pair.js';
import type { StoreServer } from './store-server.js';
import { Workload } from './workload.js';

export interface FailoverOptions {
  readonly rounds: number;
  readonly seed: number;
  /** How far the replica is behind, besides what the machine takes. */
  readonly lagMs: number;
  readonly minReplicas: number;
  readonly signal: AbortSignal;
}

/** What was seen. Nothing of it is promised not to be. */
export interface FailoverResult {
  readonly failovers: number;
  /** Completions that the store had acknowledged to an application, of records that were to be kept for an hour. */
  readonly acknowledged: number;
  /** Those of them of which the store knows nothing in the end, or something else. */
  readonly lost: number;
  /** Runs of a key that had run before. */
  readonly secondRuns: number;
}

const APPS = 4;
const CLIENTS = 16;
const LEASE_MS = 1_000;
const HOUR_MS = 3_600_000;
const MOST_BETWEEN_MS = 3_000;

/**
 * Load on a primary and its replica; again and again the primary is killed with writes in flight and the replica
 * takes its place, as it would by Sentinel or an operator (`REPLICAOF NO ONE`). Under `afterCrash: 'block'`,
 * which promises one run at most wherever the store keeps what it has acknowledged.
 */
export async function runFailover(options: FailoverOptions): Promise<FailoverResult> {
  const { rounds, seed, lagMs, minReplicas, signal } = options;
  let pair!: RedisPair;
  const server = async (): Promise<StoreServer> => (pair = await startRedisPair(lagMs)).server;
  const cluster = await Cluster.start({
    ...{ store: 'redis', mode: 'block', apps: APPS, seed, leaseMs: LEASE_MS, deadlineMs: 0.6 * LEASE_MS },
    ...{ briefMs: HOUR_MS, purgeMs: 1_000, secret: 'none', crash: 0, cut: 0, server, minReplicas },
  });
  const client = new Client(4 * LEASE_MS);
  try {
    const load = new Load(cluster, client, new Workload(random(seed), 'key', LEASE_MS), 'block', seed);
    const enough = new AbortController();
    const atWork = load.run(CLIENTS, enough.signal);
    const draw = random(seed);
    let failovers = 0;
    while (failovers < rounds && !signal.aborted) {
      await pair.inStep();
      await sleep(500 + draw() * (MOST_BETWEEN_MS - 500), undefined, { signal }).catch(() => undefined);
      const port = await pair.failOver();
      for (const { proxy } of cluster.apps) {
        proxy.retarget(port);
        proxy.cutAll();
      }
      failovers += 1;
    }
    enough.abort();
    await atWork;
    await sleep(3 * LEASE_MS, undefined, { signal }).catch(() => undefined);
    await load.finish(CLIENTS, signal);
    signal.throwIfAborted();
    const stored = await dump(cluster, load.used, 'block', 0, signal);
    return { failovers, ...count([...(await cluster.events()), ...stored]) };
  } finally {
    client.close();
    await cluster.stop();
  }
}

function count(events: readonly Event[]): Omit<FailoverResult, 'failovers'> {
  const records = new Map<string, number | undefined>();
  const fences = new Map<string, number>();
  const effects = new Map<string, number>();
  const completions: StoreCallEvent[] = [];
  for (const event of events) {
    if (event.type === 'record' && event.state === 'completed') records.set(event.subject, event.fence);
    if (event.type === 'effect') effects.set(event.subject, (effects.get(event.subject) ?? 0) + 1);
    if (event.type !== 'store') continue;
    if (event.method === 'claim' && event.fence !== undefined) fences.set(event.token, event.fence);
    if (event.method === 'complete' && event.got === 'written') completions.push(event);
  }
  return {
    acknowledged: completions.length,
    lost: completions.filter(({ subject, token }) => records.get(subject) !== fences.get(token)).length,
    secondRuns: [...effects.values()].reduce((sum, times) => sum + times - 1, 0),
  };
}
