import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import type { Answer, Call } from './client.js';

/** No stream in the story takes longer, not even one whose producer is lost. */
const OVER_WITHIN_MS = 20_000;

export interface StreamEvent {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

/** An event stream that is read as it comes, and that can be left in the middle. */
export interface LiveStream {
  /** What has arrived so far, as an answer. */
  readonly answer: Answer;
  readonly events: readonly StreamEvent[];
  /** Resolves with true once so many tokens are there; with false if the stream is over before. */
  untilTokens(count: number): Promise<boolean>;
  /** Resolves when it is over: true if it has an end, false if the connection broke. */
  over(): Promise<boolean>;
  hangUp(): void;
}

/** Opens a stream; resolves with its head. */
export function openStream(
  baseUrl: string,
  { path, apiKey, key, body }: Call,
  lastEventId?: string,
): Promise<LiveStream> {
  return new Promise((resolve, reject) => {
    const outgoing = request(`${baseUrl}${path}`, {
      method: 'POST',
      signal: AbortSignal.timeout(OVER_WITHIN_MS),
      headers: {
        ...{ authorization: `Bearer ${apiKey}`, 'content-type': 'application/json', 'idempotency-key': key },
        ...(lastEventId !== undefined && { 'last-event-id': lastEventId }),
      },
    });
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      const headers = new Headers(response.headers as Record<string, string>);
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => (text += piece));
      response.on('error', () => undefined);
      const over = new Promise<boolean>((done) => response.once('close', () => done(response.complete)));
      const stream: LiveStream = {
        get answer() {
          return { status: response.statusCode!, headers, body: text };
        },
        get events() {
          return eventsOf(text);
        },
        async untilTokens(count) {
          while (tokensOf(stream.events).length < count) {
            if (response.closed) return false;
            await pause(5);
          }
          return true;
        },
        over: () => over,
        hangUp: () => outgoing.destroy(),
      };
      resolve(stream);
    });
    outgoing.end(JSON.stringify(body));
  });
}

/** The messages of an event stream that have arrived whole. */
export function eventsOf(text: string): StreamEvent[] {
  return text
    .split('\n\n')
    .slice(0, -1)
    .map((frame) => ({ id: field(frame, 'id'), event: field(frame, 'event'), data: field(frame, 'data') ?? '' }));
}

/** The words of the model in them. */
export function tokensOf(events: readonly StreamEvent[]): string[] {
  return events
    .filter(({ event, data }) => event === undefined && data !== '[DONE]')
    .map(({ data }) => JSON.parse(data) as { choices: { delta: { content?: string } }[] })
    .map(({ choices }) => choices[0]?.delta.content ?? '')
    .filter((content) => content !== '');
}

function field(frame: string, name: string): string | undefined {
  const line = frame.split('\n').find((one) => one.startsWith(`${name}: `));
  return line?.slice(name.length + 2);
}
