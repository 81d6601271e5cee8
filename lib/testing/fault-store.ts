import { IdempotencyStoreError } from '../core/errors.js';
import type { EventLog } from '../core/event-log.js';
import type { StepLog } from '../core/step-log.js';
import type { IdempotencyStore } from '../core/store.js';

const METHODS = [
  'claim',
  'renew',
  'complete',
  'release',
  'abandon',
  'find',
  'resolve',
  'forget',
  'purge',
  'requestCancel',
  'start',
  'stop',
] as const satisfies readonly (keyof IdempotencyStore)[];

/** The members of a store that have calls of their own. */
const PARTS = {
  events: ['append', 'read'],
  steps: ['save', 'load'],
} as const satisfies { events: readonly (keyof EventLog)[]; steps: readonly (keyof StepLog)[] };

/** The calls of a store, of its event log and of its steps at which a fault can be planted. */
export type FaultMethod = (typeof METHODS)[number] | (typeof PARTS)[keyof typeof PARTS][number];

/**
 * A moment of a call: before the inner store is asked (nothing has happened yet), or after it has
 * done its work and before the caller is told.
 */
export type FaultPoint = `${'before' | 'after'}-${FaultMethod}`;

/** A call that went through a fault store. */
export interface FaultCall {
  readonly method: FaultMethod;
  /** 1 for the first call of this method, 2 for the next … */
  readonly number: number;
  readonly args: readonly unknown[];
  /** `lost`: the inner store did its work, but the caller was told of a failure. */
  readonly outcome: 'pending' | 'returned' | 'failed' | 'lost';
}

/**
 * Which calls a fault hits. Absent: all of them, until `heal`. A number n: the n-th call of the
 * method from when the fault was planted, and no other. A function: those for which it says true.
 */
export type FaultSelector = number | ((call: FaultCall) => boolean);

/** Plants a fault at one point. */
export interface FaultsAt {
  /** Rejects with `IdempotencyStoreError`, or with `error`. */
  readonly fail: (which?: FaultSelector, error?: Error) => void;
  /** Waits for `ms` milliseconds of real time, then goes on. */
  readonly delay: (ms: number, which?: FaultSelector) => void;
  /** Waits until `heal`, then goes on: a statement that is stuck in the network and still arrives. */
  readonly hang: (which?: FaultSelector) => void;
  /** Runs `action` and waits for it; for a crash, `() => process.kill(process.pid, 'SIGKILL')`. What it throws, the caller gets. */
  readonly crash: (action: (call: FaultCall) => unknown, which?: FaultSelector) => void;
}

/** Plants a fault in one method. */
export interface FaultsOn {
  /** The call fails before anything has happened. */
  readonly fail: (which?: FaultSelector, error?: Error) => void;
  /** The store does its work, and its reply is lost: the caller is told of a failure. */
  readonly loseReply: (which?: FaultSelector) => void;
  /** The call reaches the store `ms` milliseconds late. */
  readonly delay: (ms: number, which?: FaultSelector) => void;
  /** The call does not reach the store before `heal`. */
  readonly hang: (which?: FaultSelector) => void;
}

/** What a fault store has besides the members of the store that it wraps. */
export interface FaultControls {
  on(method: FaultMethod): FaultsOn;
  at(point: FaultPoint): FaultsAt;
  /** The latest 1,000 calls, oldest first. */
  readonly calls: readonly FaultCall[];
  /** How often a method was called since the store was wrapped. */
  count(method: FaultMethod): number;
  /** Takes away all faults and lets hung calls go on. */
  heal(): void;
}

/** What to run at named points: shorter than `at(point).crash(action)` where a program takes its faults from outside. */
export type FaultPlan = Readonly<Partial<Record<FaultPoint, (call: FaultCall) => unknown>>>;

/**
 * Wraps a store so that a test can make it fail as real ones do. All other members are those of the
 * wrapped store; `events`, `steps`, `requestCancel`, `subscribe`, `start` and `stop` are there only
 * if it has them.
 *
 * @example
 * const faults = faultStore(memoryStore());
 * faults.on('complete').loseReply(1); // the next complete is written, but looks as if it had failed
 * const app = await startApp({ store: faults });
 * // …
 * expect(faults.count('complete')).toBe(2); // it was tried again
 */
export function faultStore<S extends IdempotencyStore>(store: S, plan: FaultPlan = {}): S & FaultControls {
  const faults = new Faults();
  for (const point of Object.keys(plan) as FaultPoint[]) faults.at(point).crash(plan[point]!);
  const wrapped = new Map<PropertyKey, unknown>();
  for (const name of ['on', 'at', 'count', 'heal'] as const) wrapped.set(name, faults[name].bind(faults));
  for (const [method, call] of faults.wrap(store, METHODS)) wrapped.set(method, call);
  for (const part of ['events', 'steps'] as const) {
    const inner = store[part];
    if (inner) wrapped.set(part, withCalls(inner, faults.wrap(inner, PARTS[part])));
  }
  wrapped.set('calls', faults.calls);
  return withCalls(store, wrapped) as S & FaultControls;
}

/** A proxy rather than a class, so that whatever else a backend's store can do stays in reach. */
function withCalls<T extends object>(target: T, calls: ReadonlyMap<PropertyKey, unknown>): T {
  return new Proxy(target, {
    get(_target, name) {
      if (calls.has(name)) return calls.get(name);
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
    has: (_target, name) => calls.has(name) || Reflect.has(target, name),
  });
}

interface PlantedFault {
  readonly strikes: (call: FaultCall) => boolean;
  readonly act: (call: FaultCall) => unknown;
}

type MutableCall = { -readonly [K in keyof FaultCall]: FaultCall[K] };

const KEPT_CALLS = 1_000;

class Faults {
  readonly calls: MutableCall[] = [];
  private readonly counts = new Map<FaultMethod, number>();
  private planted = new Map<FaultPoint, PlantedFault[]>();
  private healed = deferred();

  at(point: FaultPoint): FaultsAt {
    const plant = (which: FaultSelector | undefined, act: PlantedFault['act']) => {
      const faults = this.planted.get(point) ?? [];
      this.planted.set(point, [...faults, { strikes: this.selector(point, which), act }]);
    };
    return {
      fail: (which, error) =>
        plant(which, ({ method }) => {
          throw error ?? new IdempotencyStoreError(`faultStore: planted failure at ${point} (${method}).`);
        }),
      delay: (ms, which) => plant(which, () => new Promise((resolve) => setTimeout(resolve, ms))),
      hang: (which) => plant(which, () => this.healed.promise),
      crash: (action, which) => plant(which, action),
    };
  }

  on(method: FaultMethod): FaultsOn {
    const { fail, delay, hang } = this.at(`before-${method}`);
    return { fail, delay, hang, loseReply: (which) => this.at(`after-${method}`).fail(which) };
  }

  count(method: FaultMethod): number {
    return this.counts.get(method) ?? 0;
  }

  heal(): void {
    this.planted = new Map();
    this.healed.resolve();
    this.healed = deferred();
  }

  /** Those of the methods that the target has, with what is planted at them. */
  wrap(target: object, methods: readonly FaultMethod[]): Map<PropertyKey, unknown> {
    const calls = new Map<PropertyKey, unknown>();
    for (const method of methods) {
      const inner: unknown = Reflect.get(target, method);
      if (typeof inner !== 'function') continue;
      const call = (...args: unknown[]) => inner.apply(target, args) as Promise<unknown>;
      calls.set(method, (...args: unknown[]) => this.run(method, args, call));
    }
    return calls;
  }

  async run(method: FaultMethod, args: unknown[], inner: (...args: unknown[]) => Promise<unknown>): Promise<unknown> {
    const call: MutableCall = { method, number: this.count(method) + 1, args, outcome: 'pending' };
    this.counts.set(method, call.number);
    this.calls.push(call);
    if (this.calls.length > KEPT_CALLS) this.calls.shift();
    let done = false;
    try {
      await this.strike(`before-${method}`, call);
      const result = await inner(...args);
      done = true;
      await this.strike(`after-${method}`, call);
      call.outcome = 'returned';
      return result;
    } catch (error) {
      call.outcome = done ? 'lost' : 'failed';
      throw error;
    }
  }

  private async strike(point: FaultPoint, call: FaultCall): Promise<void> {
    for (const fault of this.planted.get(point) ?? []) {
      // Asked anew each time: the fault before may have hung until they were all taken away.
      if (this.planted.get(point)?.includes(fault) && fault.strikes(call)) await fault.act(call);
    }
  }

  private selector(point: FaultPoint, which: FaultSelector | undefined): PlantedFault['strikes'] {
    if (which === undefined) return () => true;
    if (typeof which === 'function') return which;
    if (!Number.isSafeInteger(which) || which < 1) {
      throw new RangeError(`faultStore: ${which} is no call number; 1 is the next call of the method.`);
    }
    const before = this.count(point.slice(point.indexOf('-') + 1) as FaultMethod);
    return (call) => call.number === before + which;
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => {};
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}
