import type { AnswerNotKept, KeptAnswer, RecordedAnswer, RecordedHeader } from './record.js';
import type { SettledAnswer } from './policy.js';

const JSON_TYPE = 'application/json; charset=utf-8';
const NOTHING = new Uint8Array(0);

/** The answer that stands for a value: its JSON text, or no body at all for `undefined`. */
export function answerOfValue(value: unknown, maxRecordBytes: number): RecordedAnswer {
  if (value === undefined) return { kept: true, status: null, headers: [], body: NOTHING };
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    text = undefined; // a cycle, a bigint, a toJSON that throws
  }
  if (text === undefined) return notKept('not_serialisable', null);
  const body = Buffer.from(text);
  if (body.byteLength > maxRecordBytes) return notKept('too_large', null);
  return { kept: true, status: null, headers: [['content-type', JSON_TYPE]], body };
}

/** The value that an answer stands for: what `answerOfValue` was given, after a turn through JSON. */
export function valueOfAnswer(answer: KeptAnswer): unknown {
  if (answer.body.byteLength === 0) return undefined;
  const body = Buffer.from(answer.body); // a copy: the answer may be kept in memory for the next caller
  const type = answer.headers.find(([name]) => name === 'content-type')?.[1];
  if (type !== undefined && /^application\/(?:[\w.-]+\+)?json\b/i.test(type))
    return JSON.parse(body.toString('utf8')) as unknown;
  return type !== undefined && /^text\//i.test(type) ? body.toString('utf8') : body;
}

/** The answer that a person or a recover function gives for an operation whose run could not tell. */
export function answerOfSettlement({ body, status, headers }: SettledAnswer): KeptAnswer {
  const named: RecordedHeader[] = Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  const hasType = named.some(([name]) => name === 'content-type');
  const bytes = bytesOf(body);
  const type =
    typeof body === 'string'
      ? 'text/plain; charset=utf-8'
      : body instanceof Uint8Array
        ? 'application/octet-stream'
        : JSON_TYPE;
  if (!hasType && bytes.byteLength > 0) named.push(['content-type', type]);
  return { kept: true, status: status ?? null, headers: named, body: bytes };
}

function bytesOf(body: unknown): Uint8Array {
  if (body === undefined) return NOTHING;
  if (typeof body === 'string') return Buffer.from(body);
  if (body instanceof Uint8Array) return body;
  const text = JSON.stringify(body) as string | undefined;
  if (text === undefined) throw new TypeError('The settled answer has a body that JSON cannot hold.');
  return Buffer.from(text);
}

export function notKept(reason: AnswerNotKept['reason'], status: number | null): AnswerNotKept {
  return { kept: false, status, reason };
}
