import type { IdempotencyStore } from '../../lib/core/store.js';

/** A request, and what its handler does. */
export interface Request {
  readonly name: string;
  readonly process: number;
  readonly scope: string;
  readonly key: string;
  readonly payload: string;
  readonly inFlight?: 'reject' | 'join';
  /** Default: has its effect and records. */
  readonly handler?: 'records' | 'fails once' | 'is not kept' | 'is slow';
  /** How often the client tries again, each time at another process, after an answer that decides nothing. */
  readonly retries?: number;
}

export interface Scenario {
  readonly name: string;
  readonly mode: 'block' | 'rerun';
  readonly leaseMs: number;
  readonly retentionMs: number;
  readonly replayCache?: boolean;
  /** Effects take no steps of their own: far fewer orders, where it is others that matter. */
  readonly instantEffects?: boolean;
  readonly requests: readonly Request[];
  /**
   * How many of each may happen in one schedule. `kill`: a process dies. `cut`: a caller hears of a
   * failure, whether or when its call arrives. `resend`: a reply is lost, and the driver sends again.
   * `jump`: every process stands still for longer than a lease. `tick`: the clock goes on to the next
   * timer while other things are under way.
   */
  readonly faults: Readonly<Record<'kill' | 'cut' | 'resend' | 'jump' | 'tick' | 'purge', number>>;
  /** Plants a bug in the store. */
  readonly storeOf?: (store: IdempotencyStore) => IdempotencyStore;
}

export const NO_FAULTS: Scenario['faults'] = { kill: 0, cut: 0, resend: 0, jump: 0, tick: 0, purge: 0 };
