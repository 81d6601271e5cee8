import type { EventLog, StreamBatch, StreamItem, StreamPage, StreamRef } from '../../core/event-log.js';
import type { ClaimRef } from '../../core/record.js';
import type { RenewResult } from '../../core/store.js';
import { copyHead, stateAt, writtenTo, type MemoryRecord, type MemoryStream } from './memory-record.js';
import type { MemoryTable } from './memory-table.js';

/** The event logs of a memory store. A log is part of its record and goes with it. */
export class MemoryEventLog implements EventLog {
  constructor(private readonly table: MemoryTable) {}

  async append(claim: ClaimRef, { firstSeq, items, head }: StreamBatch, leaseMs: number): Promise<RenewResult> {
    const now = this.table.now();
    const record = this.table.held(claim, now);
    if (!record) return 'lost';
    const renewed = { ...record, leaseUntil: now + leaseMs };
    const tail = record.stream?.items.length ?? 0;
    if (tail > 0 && firstSeq + items.length - 1 === tail) {
      // Written before, and its reply was lost. The lease moves nevertheless: whoever repeats a
      // write counts its lease from the repetition.
      this.table.put(renewed);
      return writtenTo(record);
    }
    const stream = record.stream ?? (head && { head: copyHead(head), items: [] });
    if (!stream || firstSeq !== tail + 1) return 'lost';
    this.table.put({ ...renewed, stream: grown(stream, items) });
    this.table.wake(claim.recordKey);
    return writtenTo(record);
  }

  async read({ recordKey, recordId, attempt }: StreamRef, after: number, maxBytes: number) {
    const now = this.table.now();
    const record = this.table.current(recordKey, now);
    if (record?.recordId !== recordId || record.attempt !== attempt) return undefined;
    return pageOf(record, now, after, maxBytes);
  }
}

function pageOf(record: MemoryRecord, now: number, after: number, maxBytes: number): StreamPage | undefined {
  const answer = record.answer?.kept === 'stream' ? record.answer : undefined;
  // A stream that ended before its first item has its head in its answer only.
  const head = record.stream?.head ?? answer;
  if (!head) return undefined;
  const all = record.stream?.items ?? [];
  const page = { head: copyHead(head), tail: all.length, items: itemsAfter(all, after, maxBytes) };
  const state = stateAt(record, now);
  if (state === 'in_progress') return { state: 'live', ...page, leaseRemainingMs: record.leaseUntil - now };
  if (state === 'completed')
    return { state: 'ended', ...(answer && { end: answer.end }), ...page, leaseRemainingMs: 0 };
  return { state: 'interrupted', ...page, leaseRemainingMs: 0 };
}

function itemsAfter(all: readonly Uint8Array[], after: number, maxBytes: number): StreamItem[] {
  let size = 0;
  let end = after;
  for (; end < all.length; end += 1) {
    size += all[end]!.byteLength;
    if (end > after && size > maxBytes) break;
  }
  return copiesOf(all.slice(after, end)).map((bytes, i) => ({ seq: after + i + 1, bytes }));
}

/**
 * Adds to the list in place, which a copy for each append would make quadratic. Nobody else sees it:
 * a list belongs to one attempt, whose claim is the only one that gets here.
 */
function grown({ head, items }: MemoryStream, more: readonly Uint8Array[]): MemoryStream {
  for (const bytes of copiesOf(more)) items.push(bytes);
  return { head, items };
}

/** Copies of the items, all in one piece of memory: one for each would cost more than what is in them. */
function copiesOf(items: readonly Uint8Array[]): Uint8Array[] {
  const all = new Uint8Array(items.reduce((size, { byteLength }) => size + byteLength, 0));
  let end = 0;
  return items.map((bytes) => {
    all.set(bytes, end);
    return all.subarray(end, (end += bytes.byteLength));
  });
}
