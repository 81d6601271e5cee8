import type { RecordName, RecordView } from 'nestjs-idempotency';
import { send, type Answer } from '../../e2e/support/http-client.js';
import { open, type LiveResponse, type SseEvent } from '../../e2e/support/streaming-client.js';
import { spawnFixture, type Fixture } from '../../support/processes.js';
import type { Ask, StreamingConfig, StreamingStats } from '../fixtures/config.js';

/** A busy machine starts several at once. */
export const BOOT_MS = 90_000;

const file = new URL('../fixtures/app.ts', import.meta.url);

export interface StreamRequest {
  readonly key: string;
  readonly body: Ask;
  readonly lastEventId?: string | undefined;
}

/** One streaming application process. */
export class StreamingApp {
  private constructor(
    readonly process: Fixture,
    readonly config: StreamingConfig,
  ) {}

  static async start(config: StreamingConfig): Promise<StreamingApp> {
    const env = { FIXTURE: JSON.stringify(config) };
    return new StreamingApp(await spawnFixture(file, { env, readyTimeout: BOOT_MS }), config);
  }

  /** Resolves with the head of the answer. */
  open(path: string, { key, body, lastEventId }: StreamRequest): Promise<LiveResponse> {
    return open(`${this.process.url}/s/${path}`, { body, headers: headersOf(key, lastEventId) });
  }

  /** The whole answer, to its end. */
  async whole(path: string, request: StreamRequest): Promise<LiveResponse> {
    return (await this.open(path, request)).over(30_000);
  }

  /** For answers that are no stream. */
  send(path: string, { key, body, lastEventId }: Partial<StreamRequest>): Promise<Answer> {
    return send(`${this.process.url}/s/${path}`, { body, headers: headersOf(key, lastEventId) });
  }

  async stats(): Promise<StreamingStats> {
    return (await send(`${this.process.url}/stats`, { method: 'GET' })).json<StreamingStats>();
  }

  /** After a full collection of garbage. */
  async collect(): Promise<StreamingStats> {
    return (await send(`${this.process.url}/collect`, { body: {} })).json<StreamingStats>();
  }

  async find(path: string, key: string): Promise<RecordView | undefined> {
    return (await this.ask<{ record?: RecordView }>('find', path, key)).record;
  }

  async cancel(path: string, key: string): Promise<boolean> {
    return (await this.ask<{ done: boolean }>('cancel', path, key)).done;
  }

  async forget(path: string, key: string): Promise<boolean> {
    return (await this.ask<{ done: boolean }>('forget', path, key)).done;
  }

  private async ask<T>(what: string, path: string, key: string): Promise<T> {
    const body: RecordName = { operation: `POST /s/${path}`, scope: 'global', key };
    return (await send(`${this.process.url}/${what}`, { body })).json<T>();
  }
}

/** One process on Express and one on Fastify, on the same records. */
export async function startPair(config: Omit<StreamingConfig, 'adapter'>): Promise<[StreamingApp, StreamingApp]> {
  return Promise.all([
    StreamingApp.start({ ...config, adapter: 'express' }),
    StreamingApp.start({ ...config, adapter: 'fastify' }),
  ]);
}

export async function killAll(apps: readonly StreamingApp[] | undefined): Promise<void> {
  for (const { process } of apps ?? []) process.kill();
  await Promise.all((apps ?? []).map(({ process }) => process.exited));
}

/** The numbers of the tokens; they are all of one call of the model. */
export function numbersOf(events: readonly SseEvent[]): number[] {
  const parts = events.map(({ data }) => data.split('-'));
  expect(new Set(parts.map(([salt]) => salt)).size).toBeLessThanOrEqual(1);
  return parts.map(([, number]) => Number(number));
}

export function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, index) => index + 1);
}

function headersOf(key: string | undefined, lastEventId: string | undefined): Record<string, string> {
  return {
    ...(key === undefined ? {} : { 'idempotency-key': key }),
    ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
  };
}
