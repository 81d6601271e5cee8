import type { Claim } from './record.js';
import type { IdempotencyStore, RenewResult } from './store.js';
import { IdempotencyCancelledError, IdempotencyClaimLostError } from './errors.js';
import { monotonicNow } from './clock.js';
import { downstreamKeyOf, type IdempotencyRunContext, type RunManager } from './context.js';
import { Steps } from './steps.js';

/** A lease is renewed three times over: two renewals may fail before it ends. */
const RENEWALS_PER_LEASE = 3;

/** After a renewal that failed the next one comes sooner: the store may be back within a second. */
const RETRIES_PER_LEASE = 12;

/** A timer cannot count further (2^31 ms, 24.8 days): beyond it fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface ActiveRunOptions {
  readonly key: string;
  readonly operation: string;
  readonly leaseMs: number;
  readonly maxDurationMs: number;
  /** Largest result of a step, in bytes. */
  readonly maxRecordBytes: number;
}

/**
 * A run that holds a claim: renews the lease while it lasts, and tells the handler when it is lost.
 *
 * The store decides whether the claim lives. What this object knows is a lower bound: the lease is
 * counted from the moment a claim or renewal was *sent*, on a clock that does not jump, so that it
 * never believes in a lease that the store has already ended.
 */
export class ActiveRun {
  readonly context: IdempotencyRunContext;
  /** Made when somebody asks for the signal: most handlers do not, and it is dear. */
  private abort: AbortController | undefined;
  private cancelledBy: Error | undefined;
  private readonly cancelListeners: ((reason: Error) => void)[] = [];
  private readonly startedAt = monotonicNow();
  private leaseEndsAt: number;
  private timer: NodeJS.Timeout | undefined;
  private ended = false;
  private manager: RunManager | undefined;

  constructor(
    readonly claim: Claim,
    private readonly store: IdempotencyStore,
    private readonly options: ActiveRunOptions,
    claimSentAt: number,
  ) {
    this.leaseEndsAt = claimSentAt + options.leaseMs;
    const steps = new Steps(this, store.steps, options.maxRecordBytes);
    const currentManager = (): RunManager => this.currentManager(steps.current);
    const signal = (): AbortSignal => this.signal;
    this.context = {
      get manager() {
        return currentManager();
      },
      key: options.key,
      operation: options.operation,
      attempt: claim.attempt,
      fencingToken: claim.fencingToken,
      get signal() {
        return signal();
      },
      downstreamKey: (name) => downstreamKeyOf(claim.recordId, name),
      step: (name, fn) => steps.step(name, fn),
    };
    this.schedule();
  }

  /** The transaction that the run is in, from its begin to its end. */
  setManager(manager: unknown): void {
    this.manager = manager as RunManager | undefined;
  }

  private currentManager(step: string | undefined): RunManager {
    // A step's result is kept where the transaction is not: the next attempt would take its write for done.
    if (step !== undefined) {
      throw new Error(
        `context.manager is not for use in a step ('${step}'): the step stays recorded when the transaction is rolled back, and what it wrote does not. Write outside of steps.`,
      );
    }
    if (this.manager) return this.manager;
    throw new Error(
      'context.manager is there with transaction: true only, and only while the handler runs: after its end the transaction is over.',
    );
  }

  get leaseMs(): number {
    return this.options.leaseMs;
  }

  /** A write under the claim has renewed it: the timer need not for a while. */
  leaseRenewed(sentAt: number, result: Exclude<RenewResult, 'lost'>): void {
    this.leaseEndsAt = Math.max(this.leaseEndsAt, sentAt + this.options.leaseMs);
    if (result === 'cancel_requested') this.cancel(new IdempotencyCancelledError());
  }

  /** @throws the signal's reason where the claim is lost or the run is cancelled */
  assertLive(): void {
    if (this.cancelledBy) throw this.cancelledBy;
  }

  /** Whether the run has been settled by its caller. A claim that is lost has not ended the run: its handler goes on. */
  get isOver(): boolean {
    return this.ended && this.cancelledBy === undefined;
  }

  /** Milliseconds since the claim was won. */
  get elapsedMs(): number {
    return monotonicNow() - this.startedAt;
  }

  /** Milliseconds until the run has taken as long as it may; never more than a timer can count. */
  get durationLeftMs(): number {
    return Math.min(LONGEST_TIMER_MS, Math.max(0, this.options.maxDurationMs - this.elapsedMs));
  }

  /** Whether the claim may still be alive, as far as this process can tell. */
  get mayHoldClaim(): boolean {
    return monotonicNow() < this.leaseEndsAt;
  }

  /** Tells the handler to stop; the claim goes on until the handler has ended. */
  cancel(reason: Error): void {
    if (this.cancelledBy) return;
    this.cancelledBy = reason;
    this.abort?.abort(reason);
    for (const listener of this.cancelListeners) listener(reason);
  }

  /** Why the run was cancelled or its claim lost, or undefined. */
  get cancelReason(): Error | undefined {
    return this.cancelledBy;
  }

  /** Calls `listener` when the run is cancelled or its claim lost, if it has not been yet. */
  onCancel(listener: (reason: Error) => void): void {
    if (!this.cancelledBy) this.cancelListeners.push(listener);
  }

  private get signal(): AbortSignal {
    if (!this.abort) {
      this.abort = new AbortController();
      if (this.cancelledBy) this.abort.abort(this.cancelledBy);
    }
    return this.abort.signal;
  }

  /** Milliseconds since the claim can no longer be known to live; negative while it can. */
  get leaseEndedMs(): number {
    return monotonicNow() - this.leaseEndsAt;
  }

  /** Stops renewing. The claim itself is settled by the caller. */
  end(): void {
    this.ended = true;
    clearTimeout(this.timer);
  }

  /** Tells the handler that its claim is over. */
  lose(why: string): void {
    this.end();
    this.leaseEndsAt = Math.min(this.leaseEndsAt, monotonicNow());
    this.cancel(new IdempotencyClaimLostError(`The claim of this run was lost: ${why}`));
  }

  private schedule(afterFailure = false): void {
    if (this.ended) return;
    const untilEnd = this.leaseEndsAt - monotonicNow();
    const pause = this.options.leaseMs / (afterFailure ? RETRIES_PER_LEASE : RENEWALS_PER_LEASE);
    const delay = Math.max(1, Math.min(pause, untilEnd, LONGEST_TIMER_MS));
    // Not unref'd: a process that is otherwise idle must not exit under a run it has not recorded.
    this.timer = setTimeout(() => void this.tick(), delay);
  }

  private async tick(): Promise<void> {
    const mayRenew = this.elapsedMs < this.options.maxDurationMs;
    if (!this.mayHoldClaim) {
      return this.lose(
        mayRenew ? 'its lease ended before it could be renewed.' : 'the run took longer than maxDuration.',
      );
    }
    let failed = false;
    // What renews by itself (a stream's appends, a step's result) has left nothing to do.
    const due = this.leaseEndsAt - monotonicNow() < this.options.leaseMs * (1 - 0.5 / RENEWALS_PER_LEASE);
    if (mayRenew && due) {
      const sentAt = monotonicNow();
      try {
        const result = await this.store.renew(this.claim, this.options.leaseMs);
        if (this.ended) return;
        if (result === 'lost') return this.lose('another attempt has taken over, or its lease had ended.');
        this.leaseRenewed(sentAt, result);
      } catch {
        // The store did not answer. The lease goes on for what is left of it; the next tick tries again.
        failed = true;
      }
    }
    this.schedule(failed);
  }
}
