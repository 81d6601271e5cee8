import { randomUUID } from 'node:crypto';
import type { Clock } from '../../core/clock.js';
import { IdempotencyConfigError } from '../../core/errors.js';
import type { EventLog } from '../../core/event-log.js';
import type { ClaimRef, RecordedAnswer, RecordView } from '../../core/record.js';
import type { StepLog } from '../../core/step-log.js';
import type {
  AbandonOptions,
  ClaimRequest,
  ClaimResult,
  IdempotencyStore,
  RenewResult,
  Resolution,
  WriteResult,
} from '../../core/store.js';
import { MemoryEventLog } from './memory-event-log.js';
import {
  claimOf,
  copyAnswer,
  expiryOf,
  isHeldBy,
  stateAt,
  viewOf,
  writtenTo,
  type MemoryRecord,
} from './memory-record.js';
import { MemoryStepLog } from './memory-step-log.js';
import { MemoryTable } from './memory-table.js';

export interface MemoryStoreOptions {
  /**
   * The most records that are held at a time, default 10,000. Beyond it a claim of a new key is
   * refused with `IdempotencyStoreError` (503): making room would mean forgetting a run, and a
   * forgotten run runs twice. Bodies and streams count by number, not by size: `maxRecordBytes` and
   * the limits of a stream bound those.
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
  readonly events: EventLog;
  readonly steps: StepLog;
  protected readonly table: MemoryTable;
  /** One count for all keys, so that a key's tokens still increase after its record is gone. */
  private lastFencingToken = 0;

  constructor({ maxRecords = 10_000, clock = processClock }: MemoryStoreOptions = {}) {
    if (!Number.isSafeInteger(maxRecords) || maxRecords < 1) {
      throw new IdempotencyConfigError(`memoryStore: maxRecords must be a whole number from 1 up, not ${maxRecords}.`);
    }
    this.table = new MemoryTable(maxRecords, clock);
    this.events = new MemoryEventLog(this.table);
    this.steps = new MemoryStepLog(this.table);
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    const now = this.table.now();
    const record = this.table.current(request.recordKey, now);
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
      const { recordKey, recordId, attempt, stream } = record;
      const times = { leaseRemainingMs: record.leaseUntil - now, runningMs: now - record.claimedAt };
      return { kind: 'in_progress', ...times, ...(stream && { stream: { recordKey, recordId, attempt } }) };
    }
    return mayTakeOver(record, request)
      ? this.claimAgain(record, request, now)
      : { kind: 'abandoned', record: viewOf(record, now) };
  }

  async renew(claim: ClaimRef, leaseMs: number): Promise<RenewResult> {
    const now = this.table.now();
    const record = this.table.held(claim, now);
    if (!record) return 'lost';
    this.table.put({ ...record, leaseUntil: now + leaseMs });
    return writtenTo(record);
  }

  async complete(
    { recordKey, claimToken }: ClaimRef,
    answer: RecordedAnswer,
    retentionMs: number,
  ): Promise<WriteResult> {
    const now = this.table.now();
    const record = this.table.current(recordKey, now);
    if (!record || !isHeldBy(claimToken, record, now)) return repeated(record, claimToken, 'completed');
    const completed = { ...record, state: 'completed', settledAt: now, answer: copyAnswer(answer) } as const;
    this.table.put({ ...completed, retentionMs, before: undefined });
    this.table.wake(recordKey);
    return 'written';
  }

  async release({ recordKey, claimToken }: ClaimRef, { began }: { readonly began: boolean }): Promise<WriteResult> {
    const now = this.table.now();
    const record = this.table.current(recordKey, now);
    if (!began) {
      // The lease is not asked: nothing ran under this claim, and while the record still carries its
      // token nobody else has claimed either.
      if (record?.state !== 'in_progress' || record.claimToken !== claimToken) {
        return this.table.records.get(recordKey)?.undoneToken === claimToken ? 'written' : 'lost';
      }
      this.table.put({ ...(record.before ?? oneBack(record, now)), undoneToken: claimToken });
    } else {
      if (!record || !isHeldBy(claimToken, record, now)) return repeated(record, claimToken, 'released');
      this.table.put({ ...record, state: 'released', leaseUntil: now, settledAt: now, before: undefined });
    }
    this.table.wake(recordKey);
    return 'written';
  }

  async abandon({ recordKey, claimToken }: ClaimRef, { began, keep }: AbandonOptions): Promise<WriteResult> {
    const now = this.table.now();
    const record = this.table.current(recordKey, now);
    if (!record || !isHeldBy(claimToken, record, now)) return repeated(record, claimToken, 'abandoned');
    const keepAbandoned = record.keepAbandoned || keep === true;
    const abandoned = { ...record, state: 'abandoned', leaseUntil: now, keepAbandoned, before: undefined } as const;
    // A run that is not counted has no stream either: its attempt's number will be given again.
    this.table.put(began ? abandoned : { ...abandoned, ...uncounted(record) });
    this.table.wake(recordKey);
    return 'written';
  }

  async find(recordKey: string): Promise<RecordView | undefined> {
    const now = this.table.now();
    const record = this.table.current(recordKey, now);
    return record && viewOf(record, now);
  }

  async resolve(recordKey: string, resolution: Resolution, retentionMs: number): Promise<boolean> {
    const now = this.table.now();
    const record = this.table.current(recordKey, now);
    if (!record || stateAt(record, now) !== 'abandoned') return false;
    // Without its token the old claim, should it still run somewhere, can neither write nor take
    // what was settled here for its own earlier write.
    const settled = { ...record, claimToken: undefined, settledAt: now, retentionMs, before: undefined };
    this.table.put(
      resolution.kind === 'completed'
        ? { ...settled, state: 'completed', answer: copyAnswer(resolution.answer) }
        : { ...settled, state: 'released' },
    );
    this.table.wake(recordKey);
    return true;
  }

  async forget(recordKey: string): Promise<boolean> {
    const now = this.table.now();
    const record = this.table.current(recordKey, now);
    if (!record || stateAt(record, now) === 'in_progress') return false;
    this.table.records.delete(recordKey);
    this.table.wake(recordKey);
    return true;
  }

  async purge(limit: number): Promise<number> {
    return this.table.dropExpired(this.table.now(), limit);
  }

  async requestCancel(recordKey: string): Promise<boolean> {
    const now = this.table.now();
    const record = this.table.current(recordKey, now);
    if (!record || stateAt(record, now) !== 'in_progress') return false;
    this.table.put({ ...record, cancelRequested: true });
    return true;
  }

  subscribe(recordKey: string, wake: () => void): () => void {
    return this.table.subscribe(recordKey, wake);
  }

  private claimNew(request: ClaimRequest, now: number, before?: MemoryRecord): ClaimResult {
    this.table.makeRoom(request.recordKey, now);
    const run = { recordId: randomUUID(), attempt: 1, tookOver: false, createdAt: now, steps: new Map(), before };
    return this.putClaim(request, now, run);
  }

  private claimAgain(before: MemoryRecord, request: ClaimRequest, now: number): ClaimResult {
    const { recordId, createdAt, steps } = before;
    const tookOver = before.state !== 'released';
    return this.putClaim(request, now, { recordId, attempt: before.attempt + 1, tookOver, createdAt, steps, before });
  }

  private putClaim(
    { recordKey, operation, fingerprint, claimToken, leaseMs, retentionMs, keepAbandoned }: ClaimRequest,
    now: number,
    run: Pick<MemoryRecord, 'recordId' | 'attempt' | 'tookOver' | 'createdAt' | 'steps' | 'before'>,
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
      stream: undefined,
      cancelRequested: false,
    };
    this.table.put(record);
    return { kind: 'claimed', claim: claimOf(record, claimToken) };
  }

  /** Starts from the time, so that a resource which checks the token also refuses runs of an earlier process. */
  private nextFencingToken(now: number): number {
    return (this.lastFencingToken = Math.max(this.lastFencingToken + 1, now * 1_000));
  }
}

/**
 * What was before a claim, where that is no longer held: for a new record nothing; else the record was itself
 * put back by the undoing of a later claim, and what it was before that (abandoned or released) is known from its claim.
 */
function oneBack(record: MemoryRecord, now: number): MemoryRecord {
  const { attempt, tookOver } = record;
  if (attempt === 1 && !tookOver) return gone(record, now);
  const back = { ...record, attempt: attempt - 1, claimToken: undefined, stream: undefined, tookOver: false };
  const leaseUntil = Math.min(record.leaseUntil, now);
  return tookOver ? { ...back, state: 'abandoned', leaseUntil } : { ...back, state: 'released', settledAt: now };
}

/** In place of a record that nobody had claimed before: one whose retention is over, hence none at all. */
function gone(record: MemoryRecord, now: number): MemoryRecord {
  return { ...record, state: 'released', claimToken: undefined, settledAt: now, retentionMs: 0, before: undefined };
}

/** Whether this claim may have an abandoned record. */
function mayTakeOver({ keepAbandoned }: MemoryRecord, { takeOver }: ClaimRequest): boolean {
  return takeOver === 'unless_kept' ? !keepAbandoned : takeOver;
}

/** What an attempt that did not begin leaves of the one before it. */
function uncounted({ attempt, before }: MemoryRecord): Pick<MemoryRecord, 'attempt' | 'stream'> {
  return { attempt: attempt - 1, stream: before?.attempt === attempt - 1 ? before.stream : undefined };
}

/** A write that its claim has already made, and whose reply was lost, counts as written; it is not made again. */
function repeated(record: MemoryRecord | undefined, claimToken: string, state: MemoryRecord['state']): WriteResult {
  return record?.state === state && record.claimToken === claimToken ? 'written' : 'lost';
}
