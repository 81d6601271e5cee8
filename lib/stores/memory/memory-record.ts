import type { StreamHead } from '../../core/event-log.js';
import type { Claim, RecordedAnswer, RecordedHeader, RecordState, RecordView } from '../../core/record.js';
import type { RenewResult } from '../../core/store.js';

/** What an attempt has streamed. The items are the one thing that grows in place. */
export interface MemoryStream {
  readonly head: StreamHead;
  readonly items: Uint8Array[];
}

/**
 * A record as the memory store holds it. Never changed in place: each write puts a new object, so
 * that the record from before a claim can simply be kept and put back. Times are whole milliseconds.
 */
export interface MemoryRecord {
  readonly recordKey: string;
  readonly recordId: string;
  readonly operation: string;
  readonly fingerprint: string;
  /** As last written. `in_progress` also when the lease has run out since; see {@link stateAt}. */
  readonly state: RecordState;
  readonly attempt: number;
  readonly fencingToken: number;
  /** The claim that may still write, or has written; none once the record was settled by `resolve`. */
  readonly claimToken: string | undefined;
  readonly tookOver: boolean;
  readonly createdAt: number;
  readonly claimedAt: number;
  readonly leaseUntil: number;
  /** When the record was completed or released; the retention counts from here. */
  readonly settledAt: number | undefined;
  readonly retentionMs: number;
  readonly keepAbandoned: boolean;
  readonly answer: RecordedAnswer | undefined;
  /** The event log of the latest attempt, once it has appended to it. */
  readonly stream: MemoryStream | undefined;
  /** Finished steps, of all attempts. */
  readonly steps: ReadonlyMap<string, Uint8Array>;
  /** Whether somebody has asked for the present claim to be cancelled. */
  readonly cancelRequested: boolean;
  /** What `release` without a run puts back: the record as it was before the present claim. */
  readonly before: MemoryRecord | undefined;
  /** The claim that was undone last, so that its release, sent again, finds that it has been done. */
  readonly undoneToken?: string;
}

/** The state at `now`: an unfinished run whose lease is over is abandoned, though nobody wrote that down. */
export function stateAt(record: MemoryRecord, now: number): RecordState {
  return record.state === 'in_progress' && now >= record.leaseUntil ? 'abandoned' : record.state;
}

/** The first millisecond at which the record no longer exists; Infinity where it is kept until it is settled. */
export function expiryOf(record: MemoryRecord): number {
  if (record.settledAt !== undefined) return record.settledAt + record.retentionMs;
  return record.keepAbandoned ? Infinity : record.leaseUntil + record.retentionMs;
}

/** Whether the claim with this token is the record's and may write at `now`. */
export function isHeldBy(claimToken: string, record: MemoryRecord, now: number): boolean {
  return record.claimToken === claimToken && stateAt(record, now) === 'in_progress';
}

/** What a write that renews tells its claim. */
export function writtenTo(record: MemoryRecord): RenewResult {
  return record.cancelRequested ? 'cancel_requested' : 'written';
}

/** The claim that holds the record. */
export function claimOf(record: MemoryRecord, claimToken: string): Claim {
  const { recordKey, recordId, attempt, fencingToken, tookOver } = record;
  return { recordKey, recordId, claimToken, attempt, fencingToken, tookOver };
}

/** The record for readers, who get their own copy of the body. */
export function viewOf(record: MemoryRecord, now: number): RecordView {
  const state = stateAt(record, now);
  const expiry = expiryOf(record);
  return {
    recordKey: record.recordKey,
    recordId: record.recordId,
    operation: record.operation,
    fingerprint: record.fingerprint,
    state,
    attempt: record.attempt,
    fencingToken: record.fencingToken,
    createdAt: new Date(record.createdAt),
    claimedAt: new Date(record.claimedAt),
    leaseUntil: new Date(record.leaseUntil),
    ...(state === 'completed' && record.settledAt !== undefined && { completedAt: new Date(record.settledAt) }),
    ...(state !== 'in_progress' && expiry !== Infinity && { expiresAt: new Date(expiry) }),
    ...(record.answer && { answer: copyAnswer(record.answer) }),
    ...(record.stream && { stream: copyHead(record.stream.head) }),
  };
}

/** A deep copy: a buffer or a list that its owner changes later must not change a record. */
export function copyAnswer(answer: RecordedAnswer): RecordedAnswer {
  const { kept, status } = answer;
  if (kept === 'stream') return { kept, ...copyHead(answer), end: answer.end, items: answer.items };
  if (!kept) return { kept, status, reason: answer.reason };
  return { kept, status, headers: copyHeaders(answer.headers), body: new Uint8Array(answer.body) };
}

/** A deep copy of a stream's status and headers. */
export function copyHead({ status, headers }: StreamHead): StreamHead {
  return { status, headers: copyHeaders(headers) };
}

function copyHeaders(headers: readonly RecordedHeader[]): RecordedHeader[] {
  return headers.map(([name, value]) => [name, value] as const);
}
