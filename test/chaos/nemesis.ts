import { setTimeout as sleep } from 'node:timers/promises';
import { oneOf, random, whole, type Random } from '../simulation/random.js';
import { machineNow } from './app/settings.js';
import type { App, Cluster } from './cluster.js';

/** What the nemesis does to one server, or to the store. */
export const FAULTS = {
  app_kill: 6,
  app_stop: 18,
  proxy_cut: 8,
  proxy_blackhole: 8,
  proxy_drop_replies: 10,
  proxy_delay: 8,
  proxy_slice: 4,
  proxy_refuse: 4,
  clock: 6,
  backend_kill: 8,
  store_kill: 4,
  store_stop: 8,
} as const;
export type FaultKind = keyof typeof FAULTS;

export interface PlannedFault {
  /** Milliseconds after the start. */
  readonly at: number;
  readonly kind: FaultKind;
  /** Number of the server that it is for, where it is for one. */
  readonly app: number;
  readonly ms: number;
  /** How much, where that means something: milliseconds of a delay or a clock, bytes of a slice, replies. */
  readonly amount: number;
}

/** The faults of a run, all decided before it begins: the same seed, the same plan. */
export function plan(
  seed: number,
  seconds: number,
  apps: number,
  leaseMs: number,
  kinds: readonly FaultKind[] = Object.keys(FAULTS) as FaultKind[],
): PlannedFault[] {
  const draw = random(seed);
  const faults: PlannedFault[] = [];
  if (kinds.length === 0) return faults;
  for (let at = 500; at < seconds * 1_000; at += 100 + draw() * 700) {
    const kind = pick(draw, kinds);
    faults.push({ at: Math.round(at), kind, app: whole(draw, apps), ...extent(draw, kind, leaseMs) });
  }
  return faults;
}

function pick(draw: Random, kinds: readonly FaultKind[]): FaultKind {
  let left = draw() * kinds.reduce((sum, kind) => sum + FAULTS[kind], 0);
  return kinds.find((kind) => (left -= FAULTS[kind]) < 0) ?? kinds[0]!;
}

function extent(draw: Random, kind: FaultKind, leaseMs: number): { ms: number; amount: number } {
  const between = (low: number, high: number): number => Math.round(low + draw() * (high - low));
  switch (kind) {
    case 'app_stop':
      return { ms: between(0.2 * leaseMs, 3 * leaseMs), amount: 0 };
    case 'proxy_blackhole':
    case 'proxy_refuse':
      return { ms: between(200, 2 * leaseMs), amount: 0 };
    case 'proxy_drop_replies':
      return { ms: 0, amount: between(1, 4) };
    case 'proxy_delay':
      return { ms: between(300, 1_500), amount: between(20, 500) };
    case 'proxy_slice':
      return { ms: between(300, 1_500), amount: between(1, 20) };
    case 'clock':
      return { ms: between(500, 5_000), amount: oneOf(draw, [-600_000, -30_000, 30_000, 600_000]) };
    case 'store_stop':
      return { ms: between(200, 1.5 * leaseMs), amount: 0 };
    case 'store_kill':
      return { ms: between(0, 700), amount: 0 };
    case 'app_kill':
    case 'proxy_cut':
    case 'backend_kill':
      return { ms: 0, amount: 0 };
  }
}

/** Carries out a plan. A fault whose victim is just suffering another of the same kind is left out. */
export class Nemesis {
  readonly counts = new Map<string, number>();
  private readonly busy = new Set<string>();
  private readonly underWay = new Set<Promise<unknown>>();
  private readonly failures: unknown[] = [];

  constructor(
    private readonly cluster: Cluster,
    private readonly signal: AbortSignal,
  ) {}

  /** Resolves when the plan is carried out and everything is as before. */
  async run(faults: readonly PlannedFault[]): Promise<void> {
    const start = machineNow();
    for (const fault of faults) {
      const wait = start + fault.at - machineNow();
      if (wait > 0) await sleep(wait, undefined, { signal: this.signal }).catch(() => undefined);
      if (this.signal.aborted) break;
      this.begin(fault);
    }
    await Promise.all(this.underWay);
    if (this.failures.length > 0) throw new AggregateError(this.failures, 'A fault could not be carried out.');
  }

  /** Where something is being done at this moment. */
  get underHand(): string {
    return [...this.busy].join(', ') || 'nowhere';
  }

  private begin(fault: PlannedFault): void {
    const app = this.cluster.apps[fault.app]!;
    const isForStore = fault.kind.startsWith('store') || fault.kind === 'backend_kill';
    const place = isForStore ? 'store' : `${fault.kind.split('_')[0]} of ${app.name}`;
    if (this.busy.has(place)) return;
    this.busy.add(place);
    this.counts.set(fault.kind, (this.counts.get(fault.kind) ?? 0) + 1);
    const work = this.strike(fault, app)
      .catch((error: unknown) => void this.failures.push(error))
      .finally(() => {
        this.busy.delete(place);
        this.underWay.delete(work);
      });
    this.underWay.add(work);
  }

  private async strike({ kind, ms, amount }: PlannedFault, app: App): Promise<void> {
    const from = machineNow();
    const { proxy, name } = app;
    switch (kind) {
      case 'app_kill':
        app.process?.kill('SIGKILL');
        return this.cluster.fault('kill', name, from);
      case 'app_stop':
        return this.freeze(app, ms);
      case 'proxy_cut':
        proxy.cutAll();
        return this.cluster.fault('proxy_cut', name, from);
      case 'proxy_blackhole':
        proxy.blackhole(true);
        await this.pause(ms);
        proxy.blackhole(false);
        return this.cluster.fault(kind, name, from);
      case 'proxy_drop_replies':
        proxy.dropReplies(amount);
        await this.pause(1_000);
        proxy.dropReplies(0);
        return this.cluster.fault(kind, name, from);
      case 'proxy_delay':
        proxy.delay(amount);
        await this.pause(ms);
        proxy.delay(0);
        return this.cluster.fault(kind, name, from);
      case 'proxy_slice':
        proxy.slice(amount);
        await this.pause(ms);
        proxy.slice(0);
        return this.cluster.fault(kind, name, from);
      case 'proxy_refuse':
        await proxy.refuse(true);
        proxy.cutAll();
        await this.pause(ms);
        await proxy.refuse(false);
        return this.cluster.fault(kind, name, from);
      case 'clock':
        this.cluster.tell(app, { clockShiftMs: amount });
        await this.pause(ms);
        this.cluster.tell(app, { clockShiftMs: 0 });
        return this.cluster.fault(kind, name, from);
      case 'backend_kill':
        await this.cluster.store.endConnections();
        return this.cluster.fault(kind, undefined, from);
      case 'store_kill':
        await this.cluster.store.kill();
        await this.pause(ms);
        await this.cluster.store.restart();
        return this.cluster.fault(kind, undefined, from);
      case 'store_stop':
        await this.cluster.store.pause();
        await this.pause(ms);
        await this.cluster.store.resume();
        return this.cluster.fault(kind, undefined, from);
    }
  }

  private async freeze(app: App, ms: number): Promise<void> {
    const { process } = app;
    if (!process) return;
    const from = machineNow();
    process.kill('SIGSTOP');
    await this.pause(ms);
    process.kill('SIGCONT');
    this.cluster.fault('stop', app.name, from);
  }

  private async pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.signal }).catch(() => undefined);
  }
}
