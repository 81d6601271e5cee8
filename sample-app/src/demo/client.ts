import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

/** Nothing in the story takes longer, so that a broken service breaks the story instead of stopping it. */
const ANSWERED_WITHIN_MS = 20_000;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
}

export interface Call {
  readonly path: string;
  readonly apiKey: string;
  /** Absent: no header is sent. */
  readonly key?: string;
  /** JSON, or a form with a file. */
  readonly body?: object | FormData;
}

export async function send(baseUrl: string, { path, apiKey, key, body }: Call): Promise<Answer> {
  const response = await fetch(`${baseUrl}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      authorization: `Bearer ${apiKey}`,
      ...(key === undefined ? {} : { 'idempotency-key': key }),
      ...(body === undefined || body instanceof FormData ? {} : { 'content-type': 'application/json' }),
    },
    body: body === undefined || body instanceof FormData ? body : JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWERED_WITHIN_MS),
  });
  return { status: response.status, headers: response.headers, body: await response.text() };
}

/** Sends a request whose connection breaks when `hangUp` is called. */
export function sendAndHangUp(baseUrl: string, { path, apiKey, key, body }: Call): { hangUp(): boolean } {
  let answered = false;
  const outgoing = request(`${baseUrl}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json', 'idempotency-key': key },
  });
  outgoing.on('response', () => (answered = true));
  outgoing.on('error', () => undefined);
  outgoing.end(JSON.stringify(body));
  return {
    /** True if no answer had come by then. */
    hangUp() {
      outgoing.destroy();
      return !answered;
    },
  };
}

/** Asks until the answer is no `idempotency_in_progress` any more, as often as the server suggests. */
export async function sendUntilSettled(baseUrl: string, call: Call): Promise<{ answer: Answer; conflicts: Answer[] }> {
  const conflicts: Answer[] = [];
  const until = performance.now() + 30_000;
  for (;;) {
    const answer = await send(baseUrl, call);
    if (codeOf(answer) !== 'idempotency_in_progress' || performance.now() > until) return { answer, conflicts };
    conflicts.push(answer);
    await pause(Number(answer.headers.get('retry-after') ?? 1) * 1000);
  }
}

/** The `code` of an error of the library, or undefined. */
export function codeOf({ body }: Answer): string | undefined {
  try {
    return (JSON.parse(body) as { code?: string }).code;
  } catch {
    return undefined;
  }
}

export function isReplay({ headers }: Answer): boolean {
  return headers.get('idempotent-replayed') === 'true';
}
