import { randomUUID } from 'node:crypto';
import { ActiveRun } from './active-run.js';
import { monotonicNow } from './clock.js';
import { IdempotencyKeyReusedError, IdempotencyOutcomeUnknownError, IdempotencyStoreError } from './errors.js';
import { inProgressError, UsualDurations } from './in-progress.js';
import { waitForRunning } from './join.js';
import type { RunPolicy } from './policy.js';
import type { RecordedAnswer, RecordView } from './record.js';
import { recordKeyOf, type RecordName } from './record-key.js';
import { recover } from './recover.js';
import { ReplayCache, type ReplayCacheLimits } from './replay-cache.js';
import { settleRun, undoClaim, type RunOutcome } from './settle.js';
import type { ClaimRequest, ClaimResult, IdempotencyStore } from './store.js';

/** One idempotent operation, ready to be claimed. */
export interface IdempotentCall extends RecordName {
  readonly fingerprint: string;
  readonly policy: RunPolicy;
  /** Aborted when the caller has left: a waiting duplicate then stops waiting. */
  readonly callerLeft?: AbortSignal;
}

/** `ran`: the operation ran here and its outcome is recorded or released. `replay`: it had completed before. */
export type Execution<T> =
  | { readonly kind: 'ran'; readonly outcome: RunOutcome<T> }
  | { readonly kind: 'replay'; readonly answer: RecordedAnswer };

type Claimed = Extract<ClaimResult, { kind: 'claimed' }>;

/** Runs the operation and says what is to become of the record. Must not throw. */
export type RunFunction<T> = (run: ActiveRun) => Promise<RunOutcome<T>>;

/**
 * key → fingerprint → claim → run → record → replay. Key and fingerprint are read by the caller
 * (an HTTP request, a message, a line of a script); from the claim on, every way is the same.
 */
export class Engine {
  private readonly replays: ReplayCache;
  private readonly durations = new UsualDurations();
  private readonly running = new Set<Promise<unknown>>();

  constructor(
    private readonly store: IdempotencyStore,
    replayCache: ReplayCacheLimits | false,
  ) {
    this.replays = new ReplayCache(replayCache);
  }

  /**
   * Runs the operation unless it has run before.
   * @throws IdempotencyError where it neither runs nor has an answer
   */
  async execute<T>(call: IdempotentCall, run: RunFunction<T>): Promise<Execution<T>> {
    const recordKey = recordKeyOf(call);
    const hot = this.replays.get(recordKey);
    if (hot) {
      if (hot.fingerprint !== call.fingerprint) throw reusedError();
      return { kind: 'replay', answer: hot.answer };
    }
    const request: ClaimRequest = {
      recordKey,
      operation: call.operation,
      fingerprint: call.fingerprint,
      claimToken: randomUUID(),
      leaseMs: call.policy.leaseMs,
      retentionMs: call.policy.retentionMs,
      keepAbandoned: call.policy.afterCrash !== 'rerun',
      takeOver: call.policy.afterCrash !== 'block',
    };
    const sentAt = monotonicNow();
    const result = await this.claim(request);
    if (result.kind === 'claimed') return this.track(this.runClaimed(call, result, sentAt, run));
    return this.answerOther(call, request, result, run);
  }

  /** Resolves once no operation runs in this process, or after `ms`. */
  async drain(ms: number): Promise<void> {
    const until = monotonicNow() + ms;
    while (this.running.size > 0 && monotonicNow() < until) {
      let timer: NodeJS.Timeout | undefined;
      const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, until - monotonicNow())));
      await Promise.race([Promise.allSettled(this.running), patience]);
      clearTimeout(timer);
    }
  }

  /** How many operations run in this process. */
  get runningCount(): number {
    return this.running.size;
  }

  /** Drops what this process remembers of a record: it was forgotten or settled by hand. */
  dropReplay(recordKey: string): void {
    this.replays.delete(recordKey);
  }

  private async claim(request: ClaimRequest): Promise<ClaimResult> {
    const askedAt = monotonicNow();
    try {
      const result = await this.store.claim(request);
      if (result.kind === 'completed') {
        this.replays.set(
          request.recordKey,
          result.record.fingerprint,
          result.record.answer,
          askedAt + result.remainingMs,
        );
      }
      return result;
    } catch (error) {
      // The reply is lost, not necessarily the claim: what may have been won is given back, or the
      // key would be blocked by a run that never began.
      undoClaim(this.store, request);
      if (error instanceof IdempotencyStoreError) throw error;
      throw new IdempotencyStoreError(error instanceof Error ? error.message : String(error), { cause: error });
    }
  }

  private async answerOther<T>(
    call: IdempotentCall,
    request: ClaimRequest,
    result: Exclude<ClaimResult, Claimed>,
    run: RunFunction<T>,
  ): Promise<Execution<T>> {
    switch (result.kind) {
      case 'completed':
        return { kind: 'replay', answer: result.record.answer };
      case 'reused':
        throw reusedError();
      case 'abandoned':
        throw outcomeUnknownError();
      case 'in_progress': {
        if (call.policy.inFlight === 'reject') throw inProgressError(result, this.durations.of(call.operation));
        const settled = await waitForRunning({
          store: this.store,
          recordKey: request.recordKey,
          timeoutMs: call.policy.joinTimeoutMs,
          callerLeft: call.callerLeft,
          ask: () => this.askAgain(request),
        });
        if (settled.result.kind === 'claimed') {
          return this.track(this.runClaimed(call, settled.result, settled.askedAt, run));
        }
        if (settled.result.kind === 'in_progress') {
          throw inProgressError(settled.result, this.durations.of(call.operation));
        }
        return this.answerOther(call, request, settled.result, run);
      }
    }
  }

  /** A waiter's next look: another waiter of this process may already have fetched the answer. */
  private async askAgain(request: ClaimRequest): Promise<ClaimResult> {
    const hot = this.replays.get(request.recordKey);
    if (!hot) return this.claim(request);
    if (hot.fingerprint !== request.fingerprint) return { kind: 'reused' };
    return { kind: 'completed', record: hot.asRecord(request), remainingMs: 0 };
  }

  private async runClaimed<T>(
    call: IdempotentCall,
    { claim }: Claimed,
    claimSentAt: number,
    run: RunFunction<T>,
  ): Promise<Execution<T>> {
    const { leaseMs, maxDurationMs, afterCrash } = call.policy;
    const active = new ActiveRun(
      claim,
      this.store,
      { key: call.key, operation: call.operation, leaseMs, maxDurationMs },
      claimSentAt,
    );
    try {
      if (claim.tookOver && typeof afterCrash === 'function') {
        const recovered = await recover(this.store, active, afterCrash);
        if (recovered.kind !== 'rerun') return await this.settle<T>(call, active, recovered);
      }
      const outcome = await run(active);
      return await this.settle(call, active, outcome);
    } finally {
      active.end();
    }
  }

  private async settle<T>(call: IdempotentCall, active: ActiveRun, outcome: RunOutcome<T>): Promise<Execution<T>> {
    const { claim } = active;
    const sentAt = monotonicNow();
    const settled = await settleRun(this.store, active, outcome, call.policy.retentionMs);
    this.durations.add(call.operation, active.elapsedMs);
    if (settled === 'lost') return this.answerOfRecord(claim.recordKey, call.fingerprint);
    switch (outcome.kind) {
      case 'record':
        this.replays.set(claim.recordKey, call.fingerprint, outcome.answer, sentAt + call.policy.retentionMs);
        return outcome.recovered ? { kind: 'replay', answer: outcome.answer } : { kind: 'ran', outcome };
      case 'release':
        return { kind: 'ran', outcome };
      case 'unknown':
        throw outcomeUnknownError(outcome.cause);
    }
  }

  /** A late run's caller gets what the record says, never what the late run made of it. */
  private async answerOfRecord(recordKey: string, fingerprint: string): Promise<Execution<never>> {
    let record: RecordView | undefined;
    try {
      record = await this.store.find(recordKey);
    } catch (cause) {
      throw outcomeUnknownError(cause); // not the store's own 503: that one says that nothing ran
    }
    if (record?.state === 'completed' && record.answer) {
      if (record.fingerprint !== fingerprint) throw reusedError();
      return { kind: 'replay', answer: record.answer };
    }
    if (record?.state === 'in_progress') throw inProgressError({ leaseRemainingMs: 1_000, runningMs: 0 }, undefined);
    throw outcomeUnknownError();
  }

  private track<T>(work: Promise<T>): Promise<T> {
    this.running.add(work);
    const done = (): void => void this.running.delete(work);
    work.then(done, done);
    return work;
  }
}

function reusedError(): IdempotencyKeyReusedError {
  return new IdempotencyKeyReusedError(
    'This idempotency key was used with another request. Use a new key for a new request.',
  );
}

function outcomeUnknownError(cause?: unknown): IdempotencyOutcomeUnknownError {
  return new IdempotencyOutcomeUnknownError(
    'An earlier attempt ended without telling its outcome, and the operation must not run twice. Find out what happened before you send it under another key.',
    { cause },
  );
}
