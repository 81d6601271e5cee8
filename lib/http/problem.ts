import { HttpException } from '@nestjs/common';
import { IdempotencyInProgressError, type IdempotencyError, type IdempotencyErrorCode } from '../core/errors.js';
import type { RecordedHeader } from '../core/record.js';

/** Where the answers are explained, unless the application has a page of its own. */
export const DEFAULT_DOCUMENTATION_URL = 'https://www.npmjs.com/package/nestjs-idempotency';

const TITLES: Readonly<Record<IdempotencyErrorCode, string>> = {
  idempotency_key_missing: 'Idempotency key missing',
  idempotency_key_invalid: 'Idempotency key invalid',
  idempotency_key_reused: 'Idempotency key used with another request',
  idempotency_in_progress: 'Request in progress',
  idempotency_outcome_unknown: 'Outcome unknown',
  idempotency_response_not_kept: 'Response not kept',
  idempotency_store_unavailable: 'Idempotency store unavailable',
  idempotency_cursor_invalid: 'Last-Event-ID invalid',
  idempotency_too_many_streams: 'Too many streams',
};

/** Long enough for a store to come back or fail over, short enough for a client to still care. */
const STORE_RETRY_AFTER_SECONDS = 2;

/** Streams end after seconds or minutes; somebody may ask again in between. */
const STREAMS_RETRY_AFTER_SECONDS = 5;

/** An error of the library as an HTTP answer (RFC 9457). */
export interface Problem {
  readonly status: number;
  readonly headers: readonly RecordedHeader[];
  readonly body: ProblemBody;
}

/** The members of the answer. `error` repeats the gist where the client SDKs of payment and model providers look for it. */
export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: IdempotencyErrorCode;
  readonly error: {
    readonly message: string;
    readonly type: 'idempotency_error';
    readonly code: IdempotencyErrorCode;
    readonly param: string | null;
  };
}

export function problemOf(error: IdempotencyError, documentationUrl: string): Problem {
  const { code, statusCode: status, message } = error;
  // The store's own words may name hosts and tables: they are for the log, not for the client.
  const detail =
    code === 'idempotency_store_unavailable' ? 'The request was not processed. Send it again later.' : message;
  const headers: RecordedHeader[] = [
    ['content-type', 'application/problem+json'],
    ['cache-control', 'no-store'],
    ['link', `<${documentationUrl}>; rel="describedby"`],
  ];
  if (error instanceof IdempotencyInProgressError) {
    headers.push(['retry-after', String(error.retryAfterSeconds)], ['x-should-retry', 'true']);
  } else if (code === 'idempotency_store_unavailable') {
    headers.push(['retry-after', String(STORE_RETRY_AFTER_SECONDS)]);
  } else if (code === 'idempotency_too_many_streams') {
    headers.push(['retry-after', String(STREAMS_RETRY_AFTER_SECONDS)], ['x-should-retry', 'true']);
  } else if (code === 'idempotency_outcome_unknown') {
    headers.push(['x-should-retry', 'false']);
  }
  return {
    status,
    headers,
    body: {
      type: `${documentationUrl}#${code}`,
      title: TITLES[code],
      status,
      detail,
      code,
      error: { message: detail, type: 'idempotency_error', code, param: error.param },
    },
  };
}

/**
 * What the rest of the pipeline sees of a refused request: interceptors and filters may log it; the
 * answer itself is out already. `cause` is the library's own error.
 */
export class IdempotencyHttpException extends HttpException {
  constructor(problem: Problem, cause: IdempotencyError) {
    super({ ...problem.body }, problem.status, { cause });
    this.name = 'IdempotencyHttpException';
  }
}
