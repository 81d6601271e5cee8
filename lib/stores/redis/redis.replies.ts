import type { StreamHead, StreamPage } from '../../core/event-log.js';
import type { ClaimRequest, ClaimResult, RenewResult, WriteResult } from '../../core/store.js';
import type {
  AnswerNotKept,
  RecordedAnswer,
  RecordedHeader,
  RecordState,
  RecordView,
  StreamedAnswer,
} from '../../core/record.js';
import type { RedisArgument } from './redis.client-types.js';

/** The reply is none that our scripts give: the other end is no Redis, or something rewrites replies. */
export class UnexpectedReply extends Error {
  constructor(reply: unknown) {
    const shown = Array.isArray(reply) ? `a list of ${reply.length}` : String(reply).slice(0, 60);
    super(`an unexpected reply to a script of the store: ${shown}`);
    this.name = 'UnexpectedReply';
  }
}

export function text(value: unknown): string {
  if (Buffer.isBuffer(value)) return value.toString('utf8');
  if (typeof value === 'string') return value;
  throw new UnexpectedReply(value);
}

function bytes(value: unknown): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.from(text(value));
}

function list(reply: unknown): unknown[] {
  if (!Array.isArray(reply)) throw new UnexpectedReply(reply);
  return reply;
}

function number(value: unknown): number {
  const read = Number(text(value));
  if (!Number.isSafeInteger(read)) throw new UnexpectedReply(value);
  return read;
}

export function readWrite(reply: unknown): WriteResult {
  const said = text(reply);
  if (said !== 'written' && said !== 'lost') throw new UnexpectedReply(said);
  return said;
}

export function readRenewal(reply: unknown): RenewResult {
  return text(reply) === 'cancel_requested' ? 'cancel_requested' : readWrite(reply);
}

export function readFlag(reply: unknown): boolean {
  if (reply !== 0 && reply !== 1) throw new UnexpectedReply(reply);
  return reply === 1;
}

export function readClaim(reply: unknown, request: ClaimRequest): ClaimResult {
  const [kind, ...rest] = list(reply);
  switch (text(kind)) {
    case 'claimed':
      return {
        kind: 'claimed',
        claim: {
          recordKey: request.recordKey,
          claimToken: request.claimToken,
          recordId: text(rest[0]),
          attempt: number(rest[1]),
          fencingToken: number(rest[2]),
          tookOver: text(rest[3]) === '1',
        },
      };
    case 'completed': {
      const record = readView(rest[0], request.recordKey);
      if (!record.answer) throw new UnexpectedReply('a completed record without an answer');
      return { kind: 'completed', record: { ...record, answer: record.answer }, remainingMs: number(rest[1]) };
    }
    case 'in_progress':
      return {
        kind: 'in_progress',
        leaseRemainingMs: number(rest[0]),
        runningMs: number(rest[1]),
        ...(text(rest[2]) === ''
          ? {}
          : { stream: { recordKey: request.recordKey, recordId: text(rest[2]), attempt: number(rest[3]) } }),
      };
    case 'reused':
      return { kind: 'reused' };
    case 'abandoned':
      return { kind: 'abandoned', record: readView(rest[0], request.recordKey) };
    default:
      throw new UnexpectedReply(text(kind));
  }
}

/** A record as the scripts show it: its state by now, then the fields of the hash. */
export function readView(reply: unknown, recordKey: string): RecordView {
  const [state, flat] = list(reply);
  const fields = new Map<string, unknown>();
  const pairs = list(flat);
  for (let i = 0; i + 1 < pairs.length; i += 2) fields.set(text(pairs[i]), pairs[i + 1]);
  const now = text(state) as RecordState;
  const at = (name: string): Date => new Date(number(fields.get(name)));
  // A live claim has an end only as a precaution against its being forgotten; it is nobody's business.
  const ends = now !== 'in_progress' && text(fields.get('expiresAt')) !== '';
  return {
    recordKey,
    recordId: text(fields.get('recordId')),
    operation: text(fields.get('operation')),
    fingerprint: text(fields.get('fingerprint')),
    state: now,
    attempt: number(fields.get('attempt')),
    fencingToken: number(fields.get('fence')),
    createdAt: at('createdAt'),
    claimedAt: at('claimedAt'),
    leaseUntil: at('leaseUntil'),
    ...(now === 'completed' ? { completedAt: at('doneAt'), answer: readAnswer(fields) } : {}),
    ...(ends ? { expiresAt: at('expiresAt') } : {}),
    ...(fields.has('logStatus') ? { stream: readHead(fields.get('logStatus'), fields.get('logHeaders')) } : {}),
  };
}

function readHead(status: unknown, headers: unknown): StreamHead {
  return { status: number(status), headers: JSON.parse(text(headers)) as RecordedHeader[] };
}

export function readPage(reply: unknown, after: number): StreamPage {
  const [state, end, status, headers, tail, left, items] = list(reply);
  return {
    state: text(state) as StreamPage['state'],
    ...(text(end) === '' ? {} : { end: text(end) as StreamedAnswer['end'] }),
    head: readHead(status, headers),
    tail: number(tail),
    items: list(items).map((item, i) => ({ seq: after + i + 1, bytes: bytes(item) })),
    leaseRemainingMs: number(left),
  };
}

export function readSteps(reply: unknown): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  const pairs = list(reply);
  for (let i = 0; i + 1 < pairs.length; i += 2) found.set(text(pairs[i]), bytes(pairs[i + 1]));
  return found;
}

function readAnswer(fields: ReadonlyMap<string, unknown>): RecordedAnswer {
  const written = text(fields.get('status'));
  const status = written === '' ? null : Number(written);
  const kept = text(fields.get('kept'));
  const reason = text(fields.get('reason'));
  if (kept === '0') return { kept: false, status, reason: reason as AnswerNotKept['reason'] };
  const headers = JSON.parse(text(fields.get('headers'))) as RecordedHeader[];
  const body = fields.get('body');
  if (kept === 'stream') {
    return { kept, status: Number(status), headers, end: reason as StreamedAnswer['end'], items: number(body) };
  }
  return { kept: true, status, headers, body: bytes(body) };
}

/** The arguments that stand for an answer: kept, status, reason, headers, body. A stream's: its end as the reason, the number of its items as the body. */
export function answerArguments(answer: RecordedAnswer): RedisArgument[] {
  const status = answer.status === null ? '' : String(answer.status);
  if (!answer.kept) return ['0', status, answer.reason, '[]', ''];
  const headers = JSON.stringify(answer.headers);
  if (answer.kept === 'stream') return ['stream', status, answer.end, headers, String(answer.items)];
  return ['1', status, '', headers, bytesArgument(answer.body)];
}

/** The same bytes as both libraries take them. */
export function bytesArgument({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
