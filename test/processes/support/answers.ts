import type { Answer } from '../../e2e/support/http-client.js';

export function isReplay(answer: Answer): boolean {
  return answer.headers['idempotent-replayed'] === 'true';
}

export function codeOf(answer: Answer): string | undefined {
  return answer.status < 400 ? undefined : answer.json<{ code?: string }>().code;
}

export function expectInProgress(answer: Answer): void {
  expectProblem(answer, 409, 'idempotency_in_progress');
  expect(answer.headers['x-should-retry']).toBe('true');
  expectRetryAfter(answer);
}

export function expectOutcomeUnknown(answer: Answer): void {
  expectProblem(answer, 409, 'idempotency_outcome_unknown');
  expect(answer.headers['x-should-retry']).toBe('false');
  expect(answer.headers['retry-after']).toBeUndefined();
}

export function expectStoreUnavailable(answer: Answer): void {
  expectProblem(answer, 503, 'idempotency_store_unavailable');
  expectRetryAfter(answer);
}

/** The same answer as the first: status, bytes, and the mark that it is one. */
export function expectReplayOf(first: Answer, answer: Answer): void {
  expect({ status: answer.status, text: answer.text }).toEqual({ status: first.status, text: first.text });
  expect(answer.body.equals(first.body)).toBe(true);
  expect(answer.headers['content-type']).toBe(first.headers['content-type']);
  expect(answer.headers['idempotent-replayed']).toBe('true');
}

function expectProblem(answer: Answer, status: number, code: string): void {
  const problem = answer.status < 400 ? {} : answer.json();
  expect({ status: answer.status, code: problem['code'], text: answer.text }).toEqual({
    status,
    code,
    text: answer.text,
  });
  expect(problem).toMatchObject({ status, error: { type: 'idempotency_error', code } });
  expect(answer.headers['content-type']).toBe('application/problem+json');
  expect(answer.headers['cache-control']).toBe('no-store');
}

function expectRetryAfter(answer: Answer): void {
  expect(answer.headers['retry-after']).toMatch(/^([1-9]|[1-5]\d)$/);
}
