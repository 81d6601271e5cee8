import { randomUUID } from 'node:crypto';
import type { Clock } from '../../core/clock.js';
import { IdempotencyConfigError, IdempotencyStoreError } from '../../core/errors.js';
import type { ClaimRef, RecordedAnswer, RecordView } from '../../core/record.js';
import type { ClaimRequest, ClaimResult, IdempotencyStore, Resolution, WriteResult } from '../../core/store.js';
import { claimOf, copyAnswer, expiryOf, isHeldBy, stateAt, viewOf, type MemoryRecord } from './memory-record.js';

export interface MemoryStoreOptions {
  /**
   * The most records that are held at a time, default 10,000. Beyond it a claim of a new key is
   * refused with `IdempotencyStoreError` (503): making room would mean forgetting a run, and a
   * forgotten run runs twice. Bodies count by number, not by size; `maxRecordBytes` bounds those.
   */
  readonly maxRecords?: number;
  /** Where the store reads the time, for tests. Default: this process's wall clock, never set back. */
  readonly clock?: Clock;
}

// Date.now() may be set back by an operator or by NTP, and a lease must not grow by that.
const processClock: Clock = { now: () => performance.timeOrigin + performance.now() };

/**
 * Keeps records in this process: for tests, development and programs that are one process. Another
 * process does not see them, and they end with this one.
 *
 * @example
 * IdempotencyModule.forRoot({ store: memoryStore(), scope: 'global' })
 */
export function memoryStore(options?: MemoryStoreOptions): MemoryStore {
  return new MemoryStore(options);
}

/**
 * See {@link memoryStore}. Each method reads, decides and writes before it first gives way to other
 * code, which is what makes it one statement. No timers: time is looked at when somebody asks.
 */
export class MemoryStore implements IdempotencyStore {
  readonly name = 'memory';
  protected readonly records = new Map<string, MemoryRecord>();
  private readonly listeners = new Map<string, Set<() => void>>();
  private readonly maxRecords: number;
  private readonly clock: Clock;
  /** One count for all keys, so that a key's tokens still increase after its record is gone. */
  private lastFencingToken = 0;
  /** No record ends before this time: spares a full store the search on every refused claim. */
  private earliestExpiry = Infinity;

  constructor({ maxRecords = 10_000, clock = processClock }: MemoryStoreOptions = {}) {
    if (!Number.isSafeInteger(maxRecords) || maxRecords < 1) {
      throw new IdempotencyConfigError(`memoryStore: maxRecords must be a whole number from 1 up, not ${maxRecords}.`);
    }
    this.maxRecords = maxRecords;
    this.clock = clock;
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    const now = this.now();
    const record = this.current(request.recordKey, now);
    if (!record) return this.claimNew(request, now);
    if (isHeldBy(request.claimToken, record, now)) {
      return { kind: 'claimed', claim: claimOf(record, request.claimToken) };
    }
    const sameFingerprint = record.fingerprint === request.fingerprint;
    if (record.state === 'released') {
      return sameFingerprint ? this.claimAgain(record, request, now) : this.claimNew(request, now, record);
    }
    if (!sameFingerprint) return { kind: 'reused' };
    if (record.answer) {
      const view = { ...viewOf(record, now), answer: copyAnswer(record.answer) };
      return { kind: 'completed', record: view, remainingMs: expiryOf(record) - now };
    }
    if (stateAt(record, now) === 'in_progress') {
      return { kind: 'in_progress', leaseRemainingMs: record.leaseUntil - now, runningMs: now - record.claimedAt };
    }
    return request.takeOver
      ? this.claimAgain(record, request, now)
      : { kind: 'abandoned', record: viewOf(record, now) };
  }

  async renew({ recordKey, claimToken }: ClaimRef, leaseMs: number): Promise<WriteResult> {
    const now = this.now();
    const record = this.current(recordKey, now);
    if (!record || !isHeldBy(claimToken, record, now)) return 'lost';
    this.put({ ...record, leaseUntil: now + leaseMs });
    return 'written';
  }

  async complete(
    { recordKey, claimToken }: ClaimRef,
    answer: RecordedAnswer,
    retentionMs: number,
  ): Promise<WriteResult> {
    const now = this.now();
    const record = this.current(recordKey, now);
    if (!record || !isHeldBy(claimToken, record, now)) return repeated(record, claimToken, 'completed');
    const completed = { ...record, state: 'completed', settledAt: now, answer: copyAnswer(answer) } as const;
    this.put({ ...completed, retentionMs, before: undefined });
    this.wake(recordKey);
    return 'written';
  }

  async release({ recordKey, claimToken }: ClaimRef, { began }: { readonly began: boolean }): Promise<WriteResult> {
    const now = this.now();
    const record = this.current(recordKey, now);
    if (!began) {
      // The lease is not asked: nothing ran under this claim, and while the record still carries its
      // token nobody else has claimed either.
      if (record?.state !== 'in_progress' || record.claimToken !== claimToken) {
        return this.records.get(recordKey)?.undoneToken === claimToken ? 'written' : 'lost';
      }
      this.put({ ...(record.before ?? gone(record, now)), undoneToken: claimToken });
    } else {
      if (!record || !isHeldBy(claimToken, record, now)) return repeated(record, claimToken, 'released');
      this.put({ ...record, state: 'released', leaseUntil: now, settledAt: now, before: undefined });
    }
    this.wake(recordKey);
    return 'written';
  }

  async abandon({ recordKey, claimToken }: ClaimRef, { began }: { readonly began: boolean }): Promise<WriteResult> {
    const now = this.now();
    const record = this.current(recordKey, now);
    if (!record || !isHeldBy(claimToken, record, now)) return repeated(record, claimToken, 'abandoned');
    const attempt = began ? record.attempt : record.attempt - 1;
    this.put({ ...record, state: 'abandoned', attempt, leaseUntil: now, before: undefined });
    this.wake(recordKey);
    return 'written';
  }

  async find(recordKey: string): Promise<RecordView | undefined> {
    const now = this.now();
    const record = this.current(recordKey, now);
    return record && viewOf(record, now);
  }

  async resolve(recordKey: string, resolution: Resolution, retentionMs: number): Promise<boolean> {
    const now = this.now();
    const record = this.current(recordKey, now);
    if (!record || stateAt(record, now) !== 'abandoned') return false;
    // Without its token the old claim, should it still run somewhere, can neither write nor take
    // what was settled here for its own earlier write.
    const settled = { ...record, claimToken: undefined, settledAt: now, retentionMs, before: undefined };
    this.put(
      resolution.kind === 'completed'
        ? { ...settled, state: 'completed', answer: copyAnswer(resolution.answer) }
        : { ...settled, state: 'released' },
    );
    this.wake(recordKey);
    return true;
  }

  async forget(recordKey: string): Promise<boolean> {
    const now = this.now();
    const record = this.current(recordKey, now);
    if (!record || stateAt(record, now) === 'in_progress') return false;
    this.records.delete(recordKey);
    this.wake(recordKey);
    return true;
  }

  async purge(limit: number): Promise<number> {
    return this.dropExpired(this.now(), limit);
  }

  subscribe(recordKey: string, wake: () => void): () => void {
    const listener = () => wake(); // its own object, so that one function may be subscribed twice
    const listeners = this.listeners.get(recordKey) ?? new Set();
    this.listeners.set(recordKey, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.listeners.get(recordKey) === listeners) this.listeners.delete(recordKey);
    };
  }

  /** Whole milliseconds, so that a lease or retention ends on the millisecond that `find` shows. */
  private now(): number {
    return Math.floor(this.clock.now());
  }

  /** The record, unless its retention is over: then it is as if it were not there, purged or not. */
  private current(recordKey: string, now: number): MemoryRecord | undefined {
    const record = this.records.get(recordKey);
    return record && now < expiryOf(record) ? record : undefined;
  }

  private claimNew(request: ClaimRequest, now: number, before?: MemoryRecord): ClaimResult {
    this.makeRoom(request.recordKey, now);
    return this.putClaim(request, now, { recordId: randomUUID(), attempt: 1, tookOver: false, createdAt: now, before });
  }

  private claimAgain(before: MemoryRecord, request: ClaimRequest, now: number): ClaimResult {
    const { recordId, createdAt } = before;
    const tookOver = before.state !== 'released';
    return this.putClaim(request, now, { recordId, attempt: before.attempt + 1, tookOver, createdAt, before });
  }

  private putClaim(
    { recordKey, operation, fingerprint, claimToken, leaseMs, retentionMs, keepAbandoned }: ClaimRequest,
    now: number,
    run: Pick<MemoryRecord, 'recordId' | 'attempt' | 'tookOver' | 'createdAt' | 'before'>,
  ): ClaimResult {
    const record: MemoryRecord = {
      ...run,
      // One step back is all that a release needs; a longer chain would grow with every attempt.
      before: run.before && { ...run.before, before: undefined },
      ...{ recordKey, operation, fingerprint, claimToken, retentionMs, keepAbandoned },
      state: 'in_progress',
      fencingToken: this.nextFencingToken(now),
      claimedAt: now,
      leaseUntil: now + leaseMs,
      settledAt: undefined,
      answer: undefined,
    };
    this.put(record);
    return { kind: 'claimed', claim: claimOf(record, claimToken) };
  }

  /** Starts from the time, so that a resource which checks the token also refuses runs of an earlier process. */
  private nextFencingToken(now: number): number {
    return (this.lastFencingToken = Math.max(this.lastFencingToken + 1, now * 1_000));
  }

  private put(record: MemoryRecord): void {
    this.records.set(record.recordKey, record);
    this.earliestExpiry = Math.min(this.earliestExpiry, expiryOf(record));
  }

  private makeRoom(recordKey: string, now: number): void {
    if (this.records.has(recordKey) || this.records.size < this.maxRecords) return;
    if (this.dropExpired(now, Infinity) === 0) {
      throw new IdempotencyStoreError(`memoryStore is full (maxRecords ${this.maxRecords}); no retention is over yet.`);
    }
  }

  private dropExpired(now: number, limit: number): number {
    if (now < this.earliestExpiry) return 0;
    let dropped = 0;
    let earliest = Infinity;
    for (const [recordKey, record] of this.records) {
      const expiry = expiryOf(record);
      if (expiry > now) {
        earliest = Math.min(earliest, expiry);
      } else if (dropped < limit) {
        this.records.delete(recordKey);
        dropped += 1;
      } else {
        return dropped; // more is over than may go now: the bound stays as it is, in the past
      }
    }
    this.earliestExpiry = earliest;
    return dropped;
  }

  private wake(recordKey: string): void {
    const listeners = this.listeners.get(recordKey);
    for (const listener of listeners ?? []) {
      queueMicrotask(() => {
        if (listeners?.has(listener)) listener();
      });
    }
  }
}

/** In place of a record that nobody had claimed before: one whose retention is over, hence none at all. */
function gone(record: MemoryRecord, now: number): MemoryRecord {
  return { ...record, state: 'released', claimToken: undefined, settledAt: now, retentionMs: 0, before: undefined };
}

/** A write that its claim has already made, and whose reply was lost, counts as written; it is not made again. */
function repeated(record: MemoryRecord | undefined, claimToken: string, state: MemoryRecord['state']): WriteResult {
  return record?.state === state && record.claimToken === claimToken ? 'written' : 'lost';
}
