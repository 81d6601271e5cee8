import {
  operationOf,
  type CompletionEvent,
  type EffectEvent,
  type FaultEvent,
  type History,
  type MarkEvent,
  type RecordEvent,
  type RequestEvent,
  type Settings,
  type StoreCallEvent,
  type Violation,
} from './history.js';

/** A call by which a claim was won. */
export type WonClaim = StoreCallEvent & { readonly fence: number; readonly to: number };

/** All that happened to one key, oldest first, with the questions that several rules ask of it. */
export class KeyHistory {
  readonly requests: RequestEvent[] = [];
  readonly calls: StoreCallEvent[] = [];
  readonly effects: EffectEvent[] = [];
  readonly records: RecordEvent[] = [];
  readonly completions: CompletionEvent[] = [];
  readonly violations: Violation[] = [];
  readonly retentionMs: number;
  private byFence: Map<number, WonClaim> | undefined;

  constructor(
    readonly subject: string,
    readonly run: RunFacts,
  ) {
    this.retentionMs = run.settings.retentions[operationOf(subject)] ?? Infinity;
  }

  fail(invariant: string, what: string): void {
    this.violations.push({ invariant, subject: this.subject, what });
  }

  get won(): Iterable<WonClaim> {
    return this.fences().values();
  }

  /** The claim that has this fencing token. */
  claimOf(fence: number): WonClaim | undefined {
    return this.fences().get(fence);
  }

  /** The calls under a claim, its own among them. */
  callsOf(token: string): StoreCallEvent[] {
    return this.calls.filter((call) => call.token === token);
  }

  /**
   * Whether the retention of what `first` recorded can have been over when `second` was won. Where it
   * is not known when `first` was recorded, the earliest possible time counts.
   */
  mayFollow(first: WonClaim, second: WonClaim): boolean {
    return second.to >= this.earliestEndOf(first);
  }

  /**
   * When the retention of what was recorded under a claim can have been over. Of a completion that nobody
   * has heard of, neither its caller nor a replay, it is not known whether it was carried out: then the
   * record may be that of an abandoned run, whose retention begins with the end of its lease.
   */
  earliestEndOf(claim: WonClaim): number {
    if (this.retentionMs === Infinity) return Infinity;
    const completions = this.callsOf(claim.token).filter((call) => call.method === 'complete' && call.got !== 'lost');
    const isHeard =
      completions.some((call) => call.got === 'written') ||
      this.requests.some(({ answer }) => answer.kind === 'answered' && answer.run === claim.fence);
    return ((isHeard ? completions[0] : undefined) ?? claim).from + this.retentionMs;
  }

  /** Before this no retention of this key's can have been over, whichever run it was that was recorded. */
  get earliestEnd(): number {
    return (this.calls[0]?.from ?? -Infinity) + this.retentionMs;
  }

  private fences(): Map<number, WonClaim> {
    if (!this.byFence) {
      this.byFence = new Map();
      for (const call of this.calls) {
        if (call.method === 'claim' && call.fence !== undefined && !this.byFence.has(call.fence)) {
          this.byFence.set(call.fence, call as WonClaim);
        }
      }
    }
    return this.byFence;
  }
}

/** What is true of the whole run. */
export class RunFacts {
  readonly settings: Settings;
  /** When the store's content was written down, if it was. */
  readonly dumpedAt: number | undefined;
  private readonly faults: FaultEvent[];

  constructor({ settings, events }: History) {
    this.settings = settings;
    const faults = events.filter((event) => event.type === 'fault');
    this.faults = [...faults, ...slownessIn(events, faults, settings.leaseMs)];
    this.dumpedAt = events.find((event): event is MarkEvent => event.type === 'mark' && event.what === 'dump')?.at;
  }

  /** A fault that touched this server, or everything, within the time. */
  faultAt(server: string, from: number, to: number, counts: (fault: FaultEvent) => boolean): boolean {
    const grace = this.settings.graceMs;
    return this.faults.some(
      (fault) =>
        (fault.server === undefined || fault.server === server) &&
        fault.from <= to + grace &&
        fault.to + grace >= from &&
        counts(fault),
    );
  }
}

/**
 * Calls that took so long that they can have cost the lease, for whatever reason: no renewal is sent while
 * one is under way. One that never returned ended with its process.
 */
function slownessIn(events: History['events'], faults: readonly FaultEvent[], leaseMs: number): FaultEvent[] {
  const slow: FaultEvent[] = [];
  for (const event of events) {
    if (event.type !== 'store') continue;
    const { server, from } = event;
    const to = event.to ?? faults.find((fault) => isKillOf(server, fault) && fault.from >= from)?.from;
    if (to !== undefined && to - from > leaseMs / 3) slow.push({ type: 'fault', kind: 'slow', server, from, to });
  }
  return slow;
}

function isKillOf(server: string, fault: FaultEvent): boolean {
  return fault.kind === 'kill' && fault.server === server;
}

/** Faults that a claim outlives: a call fails or is repeated, the lease goes on. */
const HARMLESS: ReadonlySet<string> = new Set(['cut', 'resend', 'cut_reply', 'clock', 'backend_kill', 'purge']);

/** Whether a fault explains that a holder lost its claim. */
export function endsLeases(fault: FaultEvent): boolean {
  return !HARMLESS.has(fault.kind);
}

/** Whether a fault explains that a call of the store failed. */
export function failsCalls(fault: FaultEvent): boolean {
  return fault.kind !== 'clock' && fault.kind !== 'purge';
}

export function groupByKey(history: History): KeyHistory[] {
  const facts = new RunFacts(history);
  const keys = new Map<string, KeyHistory>();
  const of = (subject: string): KeyHistory => {
    let key = keys.get(subject);
    if (!key) keys.set(subject, (key = new KeyHistory(subject, facts)));
    return key;
  };
  for (const event of history.events) {
    if (event.type === 'request') of(event.subject).requests.push(event);
    else if (event.type === 'store') of(event.subject).calls.push(event);
    else if (event.type === 'effect') of(event.subject).effects.push(event);
    else if (event.type === 'record') of(event.subject).records.push(event);
    else if (event.type === 'completion') of(event.subject).completions.push(event);
  }
  for (const key of keys.values()) {
    key.requests.sort((a, b) => a.from - b.from);
    key.calls.sort((a, b) => a.from - b.from);
    key.effects.sort((a, b) => a.fence - b.fence || a.at - b.at);
  }
  return [...keys.values()];
}
