import { HttpException } from '@nestjs/common';
import {
  IdempotencyCursorInvalidError,
  IdempotencyInProgressError,
  IdempotencyKeyInvalidError,
  IdempotencyKeyMissingError,
  IdempotencyKeyReusedError,
  IdempotencyOutcomeUnknownError,
  IdempotencyResponseNotKeptError,
  IdempotencyStoreError,
  type IdempotencyError,
} from '../../../lib/core/errors.js';
import { keptHeaders } from '../../../lib/http/kept-headers.js';
import { DEFAULT_DOCUMENTATION_URL, IdempotencyHttpException, problemOf } from '../../../lib/http/problem.js';
import { recordBelow500 } from '../../../lib/core/record-when.js';

const URL_OF_DOCS = 'https://docs.example/idempotency';
const ERRORS: [IdempotencyError, number, string][] = [
  [new IdempotencyKeyMissingError('No key.', { param: 'Idempotency-Key' }), 400, 'idempotency_key_missing'],
  [new IdempotencyKeyInvalidError('Bad key.', { param: 'Idempotency-Key' }), 400, 'idempotency_key_invalid'],
  [new IdempotencyKeyReusedError('Reused.'), 422, 'idempotency_key_reused'],
  [new IdempotencyInProgressError('Running.', 7), 409, 'idempotency_in_progress'],
  [new IdempotencyOutcomeUnknownError('Unknown.'), 409, 'idempotency_outcome_unknown'],
  [new IdempotencyResponseNotKeptError('Not kept.'), 410, 'idempotency_response_not_kept'],
  [new IdempotencyCursorInvalidError('Bad cursor.', { param: 'Last-Event-ID' }), 400, 'idempotency_cursor_invalid'],
  [new IdempotencyStoreError('connect ECONNREFUSED db.internal:5432'), 503, 'idempotency_store_unavailable'],
];

const headersOf = (error: IdempotencyError): Record<string, string> =>
  Object.fromEntries(problemOf(error, URL_OF_DOCS).headers);

describe('the answer to a refused request', () => {
  it.each(ERRORS)('is a problem document: %p', (error, status, code) => {
    const problem = problemOf(error, URL_OF_DOCS);
    expect(problem.status).toBe(status);
    expect(problem.body).toEqual({
      type: `${URL_OF_DOCS}#${code}`,
      title: expect.stringMatching(/^[A-Z].+/),
      status,
      detail: expect.stringMatching(/.+/),
      code,
      error: { message: problem.body.detail, type: 'idempotency_error', code, param: error.param },
    });
    expect(URL.canParse(problem.body.type)).toBe(true);
    expect(headersOf(error)).toMatchObject({
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      link: `<${URL_OF_DOCS}>; rel="describedby"`,
    });
  });

  it('has a title of its own for each code', () => {
    expect(new Set(ERRORS.map(([error]) => problemOf(error, URL_OF_DOCS).body.title)).size).toBe(ERRORS.length);
  });

  it('points to a page that is an absolute URL where the application has none', () => {
    expect(URL.canParse(DEFAULT_DOCUMENTATION_URL)).toBe(true);
  });

  it('names the header that it is about', () => {
    expect(problemOf(ERRORS[0]![0], URL_OF_DOCS).body.error.param).toBe('Idempotency-Key');
    expect(problemOf(ERRORS[2]![0], URL_OF_DOCS).body.error.param).toBeNull();
  });

  it('says when to ask again, and whether to', () => {
    expect(headersOf(new IdempotencyInProgressError('x', 1))).toMatchObject({
      'retry-after': '1',
      'x-should-retry': 'true',
    });
    expect(headersOf(new IdempotencyInProgressError('x', 59))['retry-after']).toBe('59');
    expect(headersOf(new IdempotencyStoreError('x'))['retry-after']).toMatch(/^([1-9]|[1-5][0-9])$/);
    const unknown = headersOf(new IdempotencyOutcomeUnknownError('x'));
    expect(unknown['x-should-retry']).toBe('false');
    expect(unknown).not.toHaveProperty('retry-after');
    for (const [error, status] of ERRORS) {
      if (status === 409 || status === 503) continue;
      expect(headersOf(error)).not.toHaveProperty('retry-after');
      expect(headersOf(error)).not.toHaveProperty('x-should-retry');
    }
  });

  it('tells neither a stack, nor a cause, nor what the store said', () => {
    const cause = new Error('password authentication failed for user "app"');
    for (const error of [
      new IdempotencyStoreError('connect ECONNREFUSED db.internal:5432', { cause }),
      new IdempotencyOutcomeUnknownError('Unknown.', { cause }),
    ]) {
      const text = JSON.stringify(problemOf(error, URL_OF_DOCS));
      for (const secret of ['db.internal', '5432', 'password', '.spec', 'at ', 'stack', 'cause'])
        expect(text).not.toContain(secret);
    }
  });

  it('is an HttpException to the rest of the application, with the body and the cause', () => {
    const error = ERRORS[2]![0];
    const problem = problemOf(error, URL_OF_DOCS);
    const exception = new IdempotencyHttpException(problem, error);
    expect(exception).toBeInstanceOf(HttpException);
    expect(exception.getStatus()).toBe(422);
    expect(exception.getResponse()).toEqual(problem.body);
    expect(exception.cause).toBe(error);
  });
});

describe('what is recorded of an answer', () => {
  it.each([200, 201, 204, 301, 304, 400, 402, 404, 410, 418, 422, 451, 499])('%d is recorded', (status) => {
    expect(recordBelow500({ status })).toBe('record');
    expect(recordBelow500({ status, error: new Error('a filter made this of it') })).toBe('record');
  });

  it.each([401, 403, 408, 409, 425, 429, 500, 502, 503, 504, 599])('%d is released', (status) => {
    expect(recordBelow500({ status })).toBe('release');
  });

  it('without a status, a value is recorded and an error is released', () => {
    expect(recordBelow500({ status: null })).toBe('record');
    expect(recordBelow500({ status: null, error: new Error('x') })).toBe('release');
  });

  it('are the headers that belong to the answer, with lower-case names and each of several values', () => {
    expect(
      keptHeaders({
        'Content-Type': 'text/plain',
        ETag: '"1"',
        location: '/1',
        'content-language': 'de',
        'content-disposition': 'attachment',
        link: ['<a>', '<b>'],
        'content-encoding': 'gzip',
      }),
    ).toEqual([
      ['content-type', 'text/plain'],
      ['etag', '"1"'],
      ['location', '/1'],
      ['content-language', 'de'],
      ['content-disposition', 'attachment'],
      ['link', '<a>'],
      ['link', '<b>'],
      ['content-encoding', 'gzip'],
    ]);
  });

  it('are no others: neither of the session, nor of the connection, nor of this one exchange', () => {
    expect(
      keptHeaders({
        'Set-Cookie': ['session=1'],
        date: 'now',
        connection: 'keep-alive',
        'keep-alive': 'timeout=5',
        'transfer-encoding': 'chunked',
        'content-length': 5,
        upgrade: 'x',
        trailer: 'x',
        'x-request-id': '1',
        'x-ratelimit-remaining': '1',
        'access-control-allow-origin': '*',
        'www-authenticate': 'Basic',
        authorization: 'x',
        etag: undefined,
      }),
    ).toEqual([]);
  });
});
