import { randomUUID } from 'node:crypto';
import { ActiveRun } from './active-run.js';
import { monotonicNow } from './clock.js';
import { IdempotencyCancelledError, IdempotencyStoreError } from './errors.js';
import type { StreamRef } from './event-log.js';
import { inProgressError, UsualDurations } from './in-progress.js';
import { waitForRunning } from './join.js';
import { answerOfRecord } from './late-run.js';
import { termsOfUnsettled, type RunPolicy } from './policy.js';
import type { RecordedAnswer, RecordView } from './record.js';
import { recordKeyOf, type RecordName } from './record-key.js';
import { NO_PROVIDERS, recover } from './recover.js';
import { outcomeUnknownError, reusedError } from './refusals.js';
import { ReplayCache, type ReplayCacheLimits } from './replay-cache.js';
import { settleRun, undoClaim, type RunOutcome } from './settle.js';
import { runInTransaction } from './run-in-transaction.js';
import { SharedLooks } from './shared-looks.js';
import type { ClaimRequest, ClaimResult, IdempotencyStore, StoreContainer, WriteResult } from './store.js';
import { streamOf, Streams } from './streams/streams.js';

/** One idempotent operation, ready to be claimed. */
export interface IdempotentCall extends RecordName {
  readonly fingerprint: string;
  readonly policy: RunPolicy;
  /** Aborted when the caller has left: a waiting duplicate then stops waiting. */
  readonly callerLeft?: AbortSignal;
  /** Whether the caller can be answered by a stream. */
  readonly canFollow?: boolean;
}

/**
 * `ran`: the operation ran here and its outcome is recorded or released. `replay`: it had completed
 * before. `follow`: its answer is a stream, which `Engine.streams` reads.
 */
export type Execution<T> =
  | { readonly kind: 'follow'; readonly stream: StreamRef }
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
  private readonly looks = new SharedLooks((request) => this.claim(request));
  private readonly running = new Set<Promise<unknown>>();
  private readonly runs = new Set<ActiveRun>();
  private isClosing = false;
  readonly streams: Streams;

  constructor(
    private readonly store: IdempotencyStore,
    replayCache: ReplayCacheLimits | false,
    maxDetachedStreams = Infinity,
    private readonly providers: StoreContainer = NO_PROVIDERS,
  ) {
    this.replays = new ReplayCache(replayCache);
    this.streams = new Streams(store, maxDetachedStreams);
  }

  /**
   * Runs the operation unless it has run before.
   * @throws IdempotencyError where it neither runs nor has an answer
   */
  async execute<T>(call: IdempotentCall, run: RunFunction<T>): Promise<Execution<T>> {
    // What began now would be interrupted by nobody, and nobody would wait for it.
    if (this.isClosing) throw new IdempotencyStoreError('The application shuts down.');
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
      ...termsOfUnsettled(call.policy),
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

  /** Cancels the run of this record, where it is in this process: it need not wait for its next renewal. */
  cancel(recordKey: string): void {
    for (const run of this.runs) if (run.claim.recordKey === recordKey) run.cancel(new IdempotencyCancelledError());
  }

  /** Tells the runs that are left to stop; what they stream is marked interrupted at once. */
  interrupt(reason: Error): void {
    this.isClosing = true;
    this.streams.close();
    for (const run of this.runs) run.cancel(reason);
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
      case 'completed': {
        const { record } = result;
        if (record.answer.kept === 'stream' && call.canFollow) return { kind: 'follow', stream: streamOf(record) };
        return { kind: 'replay', answer: record.answer };
      }
      case 'reused':
        throw reusedError();
      case 'abandoned':
        if (typeof call.policy.afterCrash === 'function') return this.takeOver(call, request, result.record, run);
        // What was streamed before the producer died is given once more, and then the reason.
        if (result.record.stream && call.canFollow) return { kind: 'follow', stream: streamOf(result.record) };
        throw outcomeUnknownError();
      case 'in_progress': {
        const follows = (running: { readonly stream?: StreamRef }): boolean =>
          running.stream !== undefined && call.canFollow === true && call.policy.followStreams;
        if (follows(result)) return { kind: 'follow', stream: result.stream! };
        if (call.policy.inFlight === 'reject') throw inProgressError(result, this.durations.of(call.operation));
        const { result: settled, askedAt } = await waitForRunning({
          store: this.store,
          recordKey: request.recordKey,
          timeoutMs: call.policy.joinTimeoutMs,
          callerLeft: call.callerLeft,
          enough: follows,
          ask: () => this.askAgain(request),
        });
        if (settled.kind === 'claimed') return this.track(this.runClaimed(call, settled, askedAt, run));
        if (settled.kind === 'in_progress' && !follows(settled)) {
          throw inProgressError(settled, this.durations.of(call.operation));
        }
        return this.answerOther(call, request, settled, run);
      }
    }
  }

  /** Claims what an earlier run has left, to ask what came of it. */
  private async takeOver<T>(
    call: IdempotentCall,
    request: ClaimRequest,
    inDoubt: RecordView,
    run: RunFunction<T>,
  ): Promise<Execution<T>> {
    const sentAt = monotonicNow();
    const result = await this.claim({ ...request, takeOver: true });
    if (result.kind === 'claimed') return this.track(this.runClaimed(call, result, sentAt, run, inDoubt));
    return this.answerOther(call, request, result, run);
  }

  /** Whether a run can share a transaction with its record. */
  get hasTransactions(): boolean {
    return this.store.transactions !== undefined;
  }

  /** A waiter's next look: another waiter of this process may already have fetched the answer. */
  private async askAgain(request: ClaimRequest): Promise<ClaimResult> {
    const hot = this.replays.get(request.recordKey);
    if (!hot) return this.looks.ask(request);
    if (hot.fingerprint !== request.fingerprint) return { kind: 'reused' };
    return { kind: 'completed', record: hot.asRecord(request), remainingMs: 0 };
  }

  private async runClaimed<T>(
    call: IdempotentCall,
    { claim }: Claimed,
    claimSentAt: number,
    run: RunFunction<T>,
    inDoubt?: RecordView,
  ): Promise<Execution<T>> {
    const { leaseMs, maxDurationMs, maxRecordBytes, afterCrash } = call.policy;
    const active = new ActiveRun(
      claim,
      this.store,
      { key: call.key, operation: call.operation, leaseMs, maxDurationMs, maxRecordBytes },
      claimSentAt,
    );
    this.runs.add(active);
    try {
      if (claim.tookOver && inDoubt && typeof afterCrash === 'function') {
        const recovered = await recover(inDoubt, active, afterCrash, this.providers);
        if (recovered.kind !== 'rerun') return await this.settle<T>(call, active, recovered);
      }
      if (!call.policy.transaction) return await this.settle(call, active, await run(active));
      const { retentionMs } = call.policy;
      const end = await runInTransaction(this.store, this.store.transactions!, active, retentionMs, () => run(active));
      const settled = await this.settle(
        call,
        active,
        end.outcome,
        end.written === 'unwritten' ? undefined : end.written,
      );
      if (end.failure !== undefined && settled.kind === 'ran')
        throw new IdempotencyStoreError('The transaction was rolled back; nothing was written.', {
          cause: end.failure,
        });
      return settled;
    } finally {
      active.end();
      this.runs.delete(active);
      this.streams.forget(claim);
    }
  }

  private async settle<T>(
    call: IdempotentCall,
    active: ActiveRun,
    outcome: RunOutcome<T>,
    written?: WriteResult,
  ): Promise<Execution<T>> {
    const { claim } = active;
    const sentAt = monotonicNow();
    const settled = written ?? (await settleRun(this.store, active, outcome, call.policy));
    this.durations.add(call.operation, active.elapsedMs);
    if (settled === 'lost') return answerOfRecord(this.store, claim, call.fingerprint, outcome);
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

  private track<T>(work: Promise<T>): Promise<T> {
    this.running.add(work);
    const done = (): void => void this.running.delete(work);
    work.then(done, done);
    return work;
  }
}
