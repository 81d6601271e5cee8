import { createHash } from 'node:crypto';
import { IdempotencyStoreError } from '../../core/errors.js';
import type {
  AnswerNotKept,
  Claim,
  RecordedAnswer,
  RecordedHeader,
  RecordState,
  RecordView,
  StreamedAnswer,
} from '../../core/record.js';
import type { StreamHead } from '../../core/event-log.js';
import type { ClaimRequest, ClaimResult, RenewResult } from '../../core/store.js';

/** A row as the server sent it: the store switches off all type parsers, so everything is text. */
export type Row = Readonly<Record<string, string | null | undefined>>;

/** The 32 bytes behind a record key. Any other text is hashed, so that no two keys ever share a row. */
export function recordKeyBytes(recordKey: string): Buffer {
  const bytes = Buffer.from(recordKey, 'base64url');
  const isHash = bytes.length === 32 && bytes.toString('base64url') === recordKey;
  return isHash ? bytes : createHash('sha256').update(recordKey).digest();
}

/**
 * The answer's columns, in the order in which the statements take them: status, headers, body,
 * not_kept, stream_end, stream_items.
 */
export function answerValues(answer: RecordedAnswer | undefined): readonly unknown[] {
  if (!answer) return [null, null, null, null, null, null];
  const { kept, status } = answer;
  if (kept === false) return [status, null, null, answer.reason, null, null];
  // As JSON text rather than jsonb, which refuses \u0000 and lone surrogates.
  const headers = JSON.stringify(answer.headers);
  if (kept === 'stream') return [status, headers, null, null, answer.end, answer.items];
  return [status, headers, toBuffer(answer.body), null, null, null];
}

/** The same bytes, not copied: pg takes them for binary only in this class. */
export function toBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** What the row of a write that renews tells its claim. */
export function renewResult(row: Row | undefined): RenewResult {
  if (!row) return 'lost';
  return row['cancel_requested'] === 't' ? 'cancel_requested' : 'written';
}

export function claimResult(request: ClaimRequest, row: Row): ClaimResult {
  const kind = text(row, 'verdict');
  switch (kind) {
    case 'claimed':
      return { kind, claim: claimOf(request, row) };
    case 'completed': {
      const { answer, ...view } = recordView(request.recordKey, row);
      if (!answer) throw damaged('a completed record has no answer');
      return { kind, record: { ...view, answer }, remainingMs: number(row, 'remaining_ms') };
    }
    case 'in_progress': {
      const times = {
        leaseRemainingMs: number(row, 'lease_remaining_ms'),
        runningMs: number(row, 'running_ms'),
      };
      const { recordKey } = request;
      const stream = { recordKey, recordId: text(row, 'record_id'), attempt: number(row, 'attempt') };
      return { kind, ...times, ...(row['stream_head'] != null && { stream }) };
    }
    case 'reused':
      return { kind };
    case 'abandoned':
      return { kind, record: recordView(request.recordKey, row) };
    default:
      throw damaged(`the claim was answered '${kind}'`);
  }
}

export function recordView(recordKey: string, row: Row): RecordView {
  const state = text(row, 'state') as RecordState;
  const stream = headOf(row);
  return {
    recordKey,
    recordId: text(row, 'record_id'),
    operation: text(row, 'operation'),
    fingerprint: text(row, 'fingerprint'),
    state,
    attempt: number(row, 'attempt'),
    fencingToken: number(row, 'fencing_token'),
    createdAt: new Date(number(row, 'created_ms')),
    claimedAt: new Date(number(row, 'claimed_ms')),
    leaseUntil: new Date(number(row, 'lease_ms')),
    ...(state === 'completed' && { completedAt: new Date(number(row, 'completed_ms')), answer: answerOf(row) }),
    ...(state !== 'in_progress' && row['expires_ms'] && { expiresAt: new Date(number(row, 'expires_ms')) }),
    ...(stream && { stream }),
  };
}

function claimOf({ recordKey, claimToken }: ClaimRequest, row: Row): Claim {
  return {
    recordKey,
    claimToken,
    recordId: text(row, 'record_id'),
    attempt: number(row, 'attempt'),
    fencingToken: number(row, 'fencing_token'),
    // A claim that is over but may yet be undone looks abandoned to everybody.
    tookOver: row['prior_state'] === 'abandoned' || row['prior_state'] === 'in_progress',
  };
}

function answerOf(row: Row): RecordedAnswer {
  const status = row['status'] == null ? null : number(row, 'status');
  if (row['not_kept']) return { kept: false, status, reason: row['not_kept'] as AnswerNotKept['reason'] };
  const headers = JSON.parse(text(row, 'headers')) as RecordedHeader[];
  if (row['stream_end']) {
    const end = row['stream_end'] as StreamedAnswer['end'];
    return { kept: 'stream', status: number(row, 'status'), headers, end, items: number(row, 'stream_items') };
  }
  return { kept: true, status, headers, body: bytesOf(row, 'body_base64') };
}

/** Status and headers under which the latest attempt has begun to stream. */
export function headOf(row: Row): StreamHead | undefined {
  return row['stream_head'] == null ? undefined : (JSON.parse(row['stream_head']) as StreamHead);
}

export function bytesOf(row: Row, column: string): Uint8Array {
  const { buffer, byteOffset, byteLength } = Buffer.from(text(row, column), 'base64');
  return new Uint8Array(buffer, byteOffset, byteLength);
}

export function number(row: Row, column: string): number {
  return Number(text(row, column));
}

export function text(row: Row, column: string): string {
  const value = row[column];
  if (value == null) throw damaged(`column ${column} is empty`);
  return value;
}

// Only a hand that wrote into the table can bring this about.
function damaged(what: string): IdempotencyStoreError {
  return new IdempotencyStoreError(`The stored record is damaged: ${what}.`);
}
