import { monotonicNow } from './clock.js';
import type { RecordedAnswer, RecordView } from './record.js';
import type { ClaimRequest } from './store.js';

/** Bounds of the memory in which a process keeps answers that it has just given. */
export interface ReplayCacheLimits {
  /** Most bytes of bodies and headers. */
  readonly maxBytes: number;
  /** Most records. */
  readonly maxRecords: number;
  /** Longest time that an answer is given without asking the store, in milliseconds. */
  readonly maxAgeMs: number;
}

/** What an entry weighs besides its body and headers: keys and the map's own share, roughly. */
const ENTRY_OVERHEAD_BYTES = 512;

function weightOf(answer: RecordedAnswer): number {
  if (answer.kept !== true) return ENTRY_OVERHEAD_BYTES;
  const headers = answer.headers.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  return ENTRY_OVERHEAD_BYTES + headers + answer.body.byteLength;
}

class Entry {
  constructor(
    readonly fingerprint: string,
    readonly answer: RecordedAnswer,
    readonly endsAt: number,
    readonly bytes: number,
  ) {}

  /** The entry as a claim's answer; only the fields that a replay reads are of the record. */
  asRecord(request: ClaimRequest): RecordView & { readonly answer: RecordedAnswer } {
    const now = new Date();
    return {
      recordKey: request.recordKey,
      recordId: '',
      operation: request.operation,
      fingerprint: this.fingerprint,
      state: 'completed',
      attempt: 0,
      fencingToken: 0,
      createdAt: now,
      claimedAt: now,
      leaseUntil: now,
      answer: this.answer,
    };
  }
}

/**
 * Answers of completed records, kept for a few seconds: a burst of retries is answered without the
 * store. Sound because a completed record does not change until its retention ends, and an entry
 * never outlives that. The one exception is `forget` (or `resolve`) in another process, which this
 * one learns of when the entry ends: hence the few seconds.
 */
export class ReplayCache {
  private readonly entries = new Map<string, Entry>();
  private bytes = 0;
  /** Goes on where it was: from the start it would have to pass each place in the map that a dropped entry has left. */
  private oldest = this.entries.keys();

  constructor(private readonly limits: ReplayCacheLimits | false) {}

  get(recordKey: string): Entry | undefined {
    const entry = this.entries.get(recordKey);
    if (!entry) return undefined;
    if (monotonicNow() >= entry.endsAt) {
      this.delete(recordKey);
      return undefined;
    }
    return entry;
  }

  /** `recordEndsAt`: when the record's retention ends at the earliest, on the monotonic clock. */
  set(recordKey: string, fingerprint: string, answer: RecordedAnswer, recordEndsAt: number): void {
    // A stream's items are in the log; the record alone does not answer.
    if (this.limits === false || answer.kept === 'stream') return;
    const bytes = weightOf(answer);
    if (bytes > this.limits.maxBytes) return;
    this.delete(recordKey);
    const endsAt = Math.min(monotonicNow() + this.limits.maxAgeMs, recordEndsAt);
    this.entries.set(recordKey, new Entry(fingerprint, answer, endsAt, bytes));
    this.bytes += bytes;
    // All entries live equally long at most, so the oldest is the first to end.
    while (this.bytes > this.limits.maxBytes || this.entries.size > this.limits.maxRecords) this.dropOldest();
  }

  private dropOldest(): void {
    let { value, done } = this.oldest.next();
    // What it has passed was dropped, so that an iterator which has come to the end has an empty map behind it.
    if (done) ({ value, done } = (this.oldest = this.entries.keys()).next());
    if (!done) this.delete(value!);
  }

  delete(recordKey: string): void {
    const entry = this.entries.get(recordKey);
    if (!entry) return;
    this.entries.delete(recordKey);
    this.bytes -= entry.bytes;
  }
}
