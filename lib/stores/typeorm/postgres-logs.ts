import { createHash } from 'node:crypto';
import type { EventLog, StreamBatch, StreamHead, StreamItem, StreamPage, StreamRef } from '../../core/event-log.js';
import type { ClaimRef, StreamedAnswer } from '../../core/record.js';
import type { StepLog } from '../../core/step-log.js';
import type { RenewResult } from '../../core/store.js';
import type { LogsSql } from './logs.sql.js';
import type { Send } from './postgres-calls.js';
import type { AppendItem } from './record-batches.js';
import { bytesOf, headOf, number, recordKeyBytes, renewResult, text, toBuffer, type Row } from './record-row.js';
import type { StatementBatch } from './statement-batch.js';

/** One call of the store, with its deadline. */
export type Call = <T>(what: string, work: (send: Send, sql: LogsSql, end: number) => Promise<T>) => Promise<T>;

/** The event logs: the head and the tail of a stream in its record's row, the items in a table, a row for each batch. */
export class PostgresEventLog implements EventLog {
  constructor(
    private readonly call: Call,
    private readonly appends: StatementBatch<AppendItem>,
    private readonly appended: (recordKey: string) => void,
  ) {}

  async append(claim: ClaimRef, { firstSeq, items, head }: StreamBatch, leaseMs: number): Promise<RenewResult> {
    const item = {
      key: recordKeyBytes(claim.recordKey),
      claimToken: claim.claimToken,
      leaseMs: Math.round(leaseMs),
      firstSeq,
      head: head ? JSON.stringify({ status: head.status, headers: head.headers }) : null,
      sizes: items.map((bytes) => bytes.byteLength),
      data: Buffer.concat(items),
    };
    const row = await this.call('append', (_send, _sql, end) => this.appends.ask(item, end));
    if (row) this.appended(claim.recordKey);
    return renewResult(row);
  }

  async read(
    { recordKey, recordId, attempt }: StreamRef,
    after: number,
    maxBytes: number,
  ): Promise<StreamPage | undefined> {
    const values = [recordKeyBytes(recordKey), recordId, attempt, after, maxBytes];
    const [stream, ...batches] = await this.call('read', (send, { read }) => send(read, values));
    return stream && pageOf(stream, itemsOf(batches, after, maxBytes));
  }
}

function pageOf(stream: Row, items: StreamItem[]): StreamPage {
  const state = text(stream, 'state') as StreamPage['state'];
  const end = stream['stream_end'] as StreamedAnswer['end'] | null;
  return {
    state,
    ...(state === 'ended' && end != null && { end }),
    head: headOf(stream) ?? headOfAnswer(stream),
    tail: number(stream, 'tail'),
    items,
    leaseRemainingMs: state === 'live' ? number(stream, 'lease_remaining_ms') : 0,
  };
}

/** A stream that ended before its first item has its head in its answer only. */
function headOfAnswer(stream: Row): StreamHead {
  return { status: number(stream, 'status'), headers: JSON.parse(text(stream, 'headers')) as StreamHead['headers'] };
}

/** The items of whole batches, without those up to the cursor, and those that would be too many bytes. */
function itemsOf(batches: readonly Row[], after: number, maxBytes: number): StreamItem[] {
  const items: StreamItem[] = [];
  let total = 0;
  for (const batch of batches) {
    const sizes = text(batch, 'sizes').split(',').map(Number);
    const data = bytesOf(batch, 'data_base64');
    let seq = number(batch, 'last_seq') - sizes.length;
    let offset = 0;
    for (const size of sizes) {
      seq += 1;
      const begin = offset;
      offset += size;
      if (seq <= after) continue;
      total += size;
      if (items.length > 0 && total > maxBytes) return items;
      items.push({ seq, bytes: data.subarray(begin, offset) });
    }
  }
  return items;
}

/** Finished steps, a row for each, under the record's id: they outlive attempts, and not the record. */
export class PostgresStepLog implements StepLog {
  constructor(private readonly call: Call) {}

  async save(claim: ClaimRef, name: string, result: Uint8Array, leaseMs: number): Promise<RenewResult> {
    // As JSON, because text can hold neither \u0000 nor lone surrogates. The hash is the key: an index
    // takes no text of a few thousand bytes, which the names of nested steps may come to.
    const written = JSON.stringify(name);
    const values = [
      ...[recordKeyBytes(claim.recordKey), claim.claimToken, Math.round(leaseMs)],
      ...[createHash('sha256').update(written).digest(), written, toBuffer(result)],
    ];
    const [row] = await this.call('save a step', (send, { save }) => send(save, values));
    return renewResult(row);
  }

  async load({ recordKey, claimToken }: ClaimRef): Promise<ReadonlyMap<string, Uint8Array>> {
    const rows = await this.call('load the steps', (send, { load }) =>
      send(load, [recordKeyBytes(recordKey), claimToken]),
    );
    return new Map(rows.map((row) => [JSON.parse(text(row, 'name')) as string, bytesOf(row, 'result_base64')]));
  }
}
