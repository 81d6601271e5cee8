import { Agent, request, type IncomingMessage } from 'node:http';
import { parseEvents } from '../../e2e/support/streaming-client.js';
import { machineNow } from '../app/settings.js';
import type { ReadingEnd, ReadingEvent } from './history.js';

export interface Asked {
  readonly key: string;
  readonly route: 'events' | 'bytes';
  readonly body: string;
  readonly server: string;
  readonly port: number;
  readonly cursor: string | undefined;
  /** Leaves when it has so many tokens. */
  readonly leaveAfter: number;
  /** Gives up when nothing has come for so many milliseconds. */
  readonly patienceMs: number;
}

/** One answer, read until it ends or is left. Undefined where nobody listened at that port: there was no request. */
export function read(asked: Asked): Promise<ReadingEvent | undefined> {
  const { key, route, body, server, port, cursor, leaveAfter, patienceMs } = asked;
  const from = machineNow();
  return new Promise((resolve) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'idempotency-key': key,
      ...(cursor === undefined ? {} : { 'last-event-id': cursor }),
    };
    const agent = new Agent({ keepAlive: false });
    const sent = request({ host: '127.0.0.1', port, path: `/${route}`, method: 'POST', headers, agent });
    let timer: NodeJS.Timeout | undefined;
    let response: IncomingMessage | undefined;
    let text = '';
    const over = (how: 'ended' | 'cut' | 'left' | 'silent'): void => {
      clearTimeout(timer);
      sent.destroy();
      const base = { type: 'reading', key, route, server, from, to: machineNow() } as const;
      resolve({ ...base, ...(cursor !== undefined && { cursor }), ...seen(route, text, response, how) });
    };
    const wait = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => over('silent'), patienceMs);
    };
    wait();
    sent.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ECONNREFUSED') return over('cut');
      clearTimeout(timer);
      resolve(undefined);
    });
    sent.on('response', (incoming) => {
      response = incoming;
      incoming.setEncoding('utf8');
      incoming.on('data', (piece: string) => {
        text += piece;
        wait();
        if (incoming.statusCode === 200 && tokensIn(route, text) > leaveAfter) over('left');
      });
      incoming.on('error', () => undefined);
      incoming.on('end', () => over('ended'));
      incoming.on('close', () => over(incoming.complete ? 'ended' : 'cut'));
    });
    sent.end(body);
  });
}

function tokensIn(route: 'events' | 'bytes', text: string): number {
  return (text.match(route === 'events' ? /^data: /gm : /\n/g) ?? []).length;
}

type Seen = Pick<ReadingEvent, 'status' | 'code' | 'standing' | 'items' | 'end' | 'endId' | 'reason'>;

function seen(
  route: 'events' | 'bytes',
  text: string,
  response: IncomingMessage | undefined,
  how: 'ended' | 'cut' | 'left' | 'silent',
): Seen {
  const end = how === 'ended' ? 'clean' : how;
  if (!response) return { items: [], end };
  const status = response.statusCode!;
  if (status !== 200) return { status, code: codeOf(text), items: [], end: how === 'ended' ? 'refused' : how };
  const standing = response.headers['idempotency-stream'] as string | undefined;
  const common = { status, ...(standing !== undefined && { standing }) };
  if (route === 'bytes') {
    const lines = text.split('\n').slice(0, -1);
    return { ...common, items: lines.map((line) => ['', line] as const), end };
  }
  const events = parseEvents(text);
  // Nest tells of a source's failure in a message of its own, which is part of the stream.
  const items = events.filter(({ event }) => event === undefined).map(({ id = '', data }) => [id, data] as const);
  const last = events[events.length - 1];
  const name = /^idempotency\.(.+)$/.exec(last?.event ?? '')?.[1] as ReadingEnd | undefined;
  if (!name || !last) return { ...common, items, end };
  const { reason } = JSON.parse(last.data) as { reason: string };
  return { ...common, items, end: name, ...(last.id !== undefined && { endId: last.id }), reason };
}

function codeOf(text: string): string {
  try {
    return String((JSON.parse(text) as { code?: unknown }).code);
  } catch {
    return text.slice(0, 100);
  }
}
