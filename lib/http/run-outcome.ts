import { notKept } from '../core/answer.js';
import { verdictOf } from '../core/errors.js';
import type { RecordedAnswer, RecordedHeader } from '../core/record.js';
import { askRecordWhen, type RecordWhen } from '../core/record-when.js';
import type { RunOutcome } from '../core/settle.js';
import { keptHeaders } from './kept-headers.js';
import type { HeldResponse } from './wire-holder.js';

/** An answer that goes out instead of what the application wrote. */
export interface Substitute {
  readonly status: number;
  readonly headers: readonly RecordedHeader[];
  readonly body: Buffer;
}

/** What becomes of a run whose handler answered with `status`, or threw `error`. */
export function outcomeOf(
  recordWhen: RecordWhen,
  status: number,
  error: unknown,
  answer: () => RecordedAnswer,
): RunOutcome<void> {
  switch (verdictOf(error)) {
    case 'indeterminate':
      return { kind: 'unknown', began: true, declared: true, cause: error };
    case 'not-executed':
      return { kind: 'release', began: true };
    case undefined:
      return askRecordWhen(recordWhen, error === undefined ? { status } : { status, error }) === 'record'
        ? { kind: 'record', answer: answer() }
        : { kind: 'release', began: true, error };
  }
}

/** What is recorded of a response. */
export function answerOf({ status, headers, body }: HeldResponse, maxBytes: number): RecordedAnswer {
  if (body === undefined || body.byteLength > maxBytes) return notKept('too_large', status);
  return { kept: true, status, headers: keptHeaders(headers), body };
}

/** The answer of a source that failed before it streamed anything: it can still be an error like any other. */
export function answerOfFailure(error: unknown): Substitute {
  const status = statusOf(error);
  const message = status < 500 && error instanceof Error ? error.message : 'Internal server error';
  const headers: RecordedHeader[] = [['content-type', 'application/json; charset=utf-8']];
  return { status, headers, body: Buffer.from(JSON.stringify({ statusCode: status, message })) };
}

/**
 * The answer of a handler that threw `NotExecutedError`, in the shape of the library's own errors: one
 * client SDK takes an error without an `error` member for a success.
 */
export function answerOfNotExecuted(error: unknown): Substitute | undefined {
  if (verdictOf(error) !== 'not-executed') return undefined;
  const { message } = error as Error;
  const status = statusOf(error);
  const code = 'idempotency_not_executed';
  const problem = {
    type: 'about:blank',
    title: 'Not executed',
    status,
    detail: message,
    code,
    error: { message, type: 'idempotency_error', code, param: null },
  };
  const headers: RecordedHeader[] = [
    ['content-type', 'application/problem+json'],
    ['cache-control', 'no-store'],
  ];
  return { status, headers, body: Buffer.from(JSON.stringify(problem)) };
}

/** The status that a thrown value stands for, as Nest's own filter reads it. */
export function statusOf(error: unknown): number {
  const candidate = error as { getStatus?: () => unknown; statusCode?: unknown } | undefined;
  const status = typeof candidate?.getStatus === 'function' ? candidate.getStatus() : candidate?.statusCode;
  return typeof status === 'number' ? status : 500;
}
