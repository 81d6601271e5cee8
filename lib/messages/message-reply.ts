import { answerOfValue, notKept, valueOfAnswer } from '../core/answer.js';
import type { KeptAnswer, RecordedAnswer } from '../core/record.js';

const JSON_TYPE = ['content-type', 'application/json; charset=utf-8'] as const;
/** Says what a recorded body is, where it is not the one value of a reply. */
const KIND = 'idempotency-reply';
const COMMA = 1;

/** What an asker gets when Nest's own filter does not know the error. */
const UNKNOWN_ERROR = { status: 'error', message: 'Internal server error' };

export type ReplayedReply = { readonly values: readonly unknown[] } | { readonly error: object | string };

/**
 * The values of one run. They wait here until the record is written, so that no asker has a reply which
 * a redelivery could contradict. A reply that is too large to be kept flows through, but for its latest value.
 */
export class Reply {
  private readonly values: unknown[] = [];
  private readonly texts: string[] = [];
  private bytes = 0;
  private count = 0;
  private isUnwritable = false;

  constructor(
    private readonly maxBytes: number,
    /** Nothing at all may go out before a transaction has committed, however large it is. */
    private readonly holdsAll: boolean,
  ) {}

  /** Takes a value and gives back those that may go out now. */
  add(value: unknown): unknown[] {
    this.count += 1;
    this.values.push(value);
    if (this.isKept) this.keep(value);
    return this.isKept || this.holdsAll ? [] : this.values.splice(0, this.values.length - 1);
  }

  /** What has not gone out so far. */
  rest(): unknown[] {
    return this.values.splice(0);
  }

  answer(): RecordedAnswer {
    if (this.isUnwritable) return notKept('not_serialisable', null);
    if (!this.isKept) return notKept('too_large', null);
    if (this.count === 1) return answerOfValue(this.values[0], this.maxBytes);
    return keptAnswer(`[${this.texts.join(',')}]`, 'sequence');
  }

  private get isKept(): boolean {
    return !this.isUnwritable && this.bytes <= this.maxBytes;
  }

  private keep(value: unknown): void {
    const text = textOf(value);
    if (text === undefined) {
      this.isUnwritable = true;
    } else {
      this.bytes += Buffer.byteLength(text) + (this.count > 1 ? COMMA : 0);
      if (this.isKept) this.texts.push(text);
    }
    if (!this.isKept) this.texts.length = 0;
  }
}

/** What is recorded of an error that the route keeps: what the asker is told of it. */
export function answerOfError(error: unknown, maxBytes: number): RecordedAnswer {
  const { getError } = Object(error) as { getError?: unknown };
  const text = textOf(typeof getError === 'function' ? (getError.call(error) as unknown) : UNKNOWN_ERROR);
  if (text === undefined) return notKept('not_serialisable', null);
  return Buffer.byteLength(text) > maxBytes ? notKept('too_large', null) : keptAnswer(text, 'error');
}

export function replyOf(answer: KeptAnswer): ReplayedReply {
  const value = valueOfAnswer(answer);
  switch (answer.headers.find(([name]) => name === KIND)?.[1]) {
    case 'sequence':
      return { values: value as unknown[] };
    case 'error':
      return { error: value as object | string };
    default:
      return { values: [value] };
  }
}

function keptAnswer(text: string, kind: 'sequence' | 'error'): KeptAnswer {
  return { kept: true, status: null, headers: [JSON_TYPE, [KIND, kind]], body: Buffer.from(text) };
}

/** As in an array: what JSON leaves out is null there. Undefined where there is no text for it. */
function textOf(value: unknown): string | undefined {
  try {
    return (JSON.stringify(value) as string | undefined) ?? (value === undefined ? 'null' : undefined);
  } catch {
    return undefined; // a cycle, a bigint, a toJSON that throws
  }
}
