import type { Clock } from '../../core/clock.js';
import { IdempotencyStoreError } from '../../core/errors.js';
import type { ClaimRef } from '../../core/record.js';
import { expiryOf, isHeldBy, type MemoryRecord } from './memory-record.js';

/** The records of a memory store, their ends, and who waits for them: what its parts share. */
export class MemoryTable {
  readonly records = new Map<string, MemoryRecord>();
  private readonly listeners = new Map<string, Set<() => void>>();
  /** No record ends before this time: spares a full store the search on every refused claim. */
  private earliestExpiry = Infinity;

  constructor(
    private readonly maxRecords: number,
    private readonly clock: Clock,
  ) {}

  /** Whole milliseconds, so that a lease or retention ends on the millisecond that `find` shows. */
  now(): number {
    return Math.floor(this.clock.now());
  }

  /** The record, unless its retention is over: then it is as if it were not there, purged or not. */
  current(recordKey: string, now: number): MemoryRecord | undefined {
    const record = this.records.get(recordKey);
    return record && now < expiryOf(record) ? record : undefined;
  }

  /** The record, if this claim may write to it. */
  held({ recordKey, claimToken }: ClaimRef, now: number): MemoryRecord | undefined {
    const record = this.current(recordKey, now);
    return record && isHeldBy(claimToken, record, now) ? record : undefined;
  }

  put(record: MemoryRecord): void {
    this.records.set(record.recordKey, record);
    this.earliestExpiry = Math.min(this.earliestExpiry, expiryOf(record));
  }

  /** @throws IdempotencyStoreError where the key is new and the table full */
  makeRoom(recordKey: string, now: number): void {
    if (this.records.has(recordKey) || this.records.size < this.maxRecords) return;
    if (this.dropExpired(now, Infinity) === 0) {
      throw new IdempotencyStoreError(`memoryStore is full (maxRecords ${this.maxRecords}); no retention is over yet.`);
    }
  }

  dropExpired(now: number, limit: number): number {
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

  subscribe(recordKey: string, wake: () => void): () => void {
    const listener = () => wake(); // its own object, so that one function may be subscribed twice
    const listeners = this.listeners.get(recordKey) ?? new Set();
    this.listeners.set(recordKey, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.listeners.get(recordKey) === listeners) this.listeners.delete(recordKey);
    };
  }

  wake(recordKey: string): void {
    const listeners = this.listeners.get(recordKey);
    for (const listener of listeners ?? []) {
      queueMicrotask(() => {
        if (listeners?.has(listener)) listener();
      });
    }
  }
}
