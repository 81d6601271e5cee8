import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { readSettings, type Settings } from '../../sample-app/src/settings.js';
import { startService, type RunningService } from '../../sample-app/src/service.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { spawnFixture, type Fixture } from '../support/processes.js';

const main = new URL('../../sample-app/src/main.ts', import.meta.url);

export const KEYS = { acme: 'sk-acme-demo', globex: 'sk-globex-demo', operator: 'sk-operator-demo' } as const;

export interface TestService extends RunningService {
  readonly database: TestDatabase;
}

/** The sample application in this process, with an environment of its own. */
export async function serviceFor(name: string, env: Record<string, string> = {}): Promise<TestService> {
  const database = await createTestDatabase(name);
  const service = await startService(settingsAt(database.url, env), { logger: false });
  return Object.assign(service, { database });
}

export function settingsAt(databaseUrl: string, env: Record<string, string> = {}): Settings {
  return readSettings({ PORT: '0', DATABASE_URL: databaseUrl, MODEL_DELAY_MS: '20', PAYMENT_DELAY_MS: '5', ...env });
}

/** The application in a process of its own, which a test may kill. */
export function spawnService(databaseUrl: string, env: Record<string, string> = {}): Promise<Fixture> {
  const ordinary = { REDIS_URL: '', PORT: '0', LEASE: '1s', MODEL_DELAY_MS: '20', PAYMENT_DELAY_MS: '5' };
  return spawnFixture(main, { env: { ...ordinary, DATABASE_URL: databaseUrl, ...env } });
}

/** As a well-behaved client: asks again for as long as it is told that the request is in progress. */
export async function postUntilSettled(service: { url: string }, path: string, call: Post): Promise<Reply> {
  let reply = await post(service, path, call);
  await until(async () => {
    if (reply.json.code !== 'idempotency_in_progress') return true;
    reply = await post(service, path, call);
    return false;
  }, `an answer of ${path}`);
  return reply;
}

export async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + 60_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`Waited too long for ${what}.`);
    await pause(25);
  }
}

/** What the application's tables hold. */
export async function rowsOf(databaseUrl: string, statement: string, values: unknown[] = []): Promise<any[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query(statement, values)).rows;
  } finally {
    await client.end();
  }
}

export function isReplay({ headers }: Reply): boolean {
  return headers.get('idempotent-replayed') === 'true';
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body as JSON, to be looked at member by member. */
  readonly json: any;
}

export interface Post {
  readonly key?: string;
  readonly apiKey?: string;
  readonly body: object;
}

export async function post({ url }: { url: string }, path: string, { key, apiKey, body }: Post): Promise<Reply> {
  const isForm = body instanceof FormData;
  return read(
    await fetch(`${url}${path}`, {
      method: 'POST',
      headers: {
        ...authorization(apiKey),
        ...(key !== undefined && { 'idempotency-key': key }),
        ...(!isForm && { 'content-type': 'application/json' }),
      },
      body: isForm ? body : JSON.stringify(body),
    }),
  );
}

export interface StreamReply {
  readonly status: number;
  readonly text: string;
  /** The messages without a name of their own. */
  readonly chunks: any[];
  /** Whether the last message is `[DONE]`. */
  readonly done: boolean;
}

/** A chat completion with `stream: true`, to its end. */
export async function postStream({ url }: { url: string }, { key, body }: Post): Promise<StreamReply> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { ...authorization(), 'content-type': 'application/json', ...(key && { 'idempotency-key': key }) },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  const data = text
    .split('\n\n')
    .filter((frame) => !frame.includes('event:'))
    .map((frame) => /^data: (.*)$/m.exec(frame)?.[1])
    .filter((line) => line !== undefined);
  const chunks = data.filter((line) => line !== '[DONE]').map((line) => JSON.parse(line) as unknown);
  return { status: response.status, text, chunks, done: data.at(-1) === '[DONE]' };
}

function authorization(apiKey: string = KEYS.acme): { authorization: string } {
  return { authorization: `Bearer ${apiKey}` };
}

export async function get({ url }: { url: string }, path: string, apiKey: string = KEYS.acme): Promise<Reply> {
  return read(await fetch(`${url}${path}`, { headers: authorization(apiKey) }));
}

export async function usage(service: { url: string }, apiKey: string = KEYS.acme): Promise<any> {
  return (await get(service, '/v1/usage', apiKey)).json;
}

export function chat(content: string): object {
  return { model: 'any', messages: [{ role: 'user', content }] };
}

async function read(response: Response): Promise<Reply> {
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: JSON.parse(text) as unknown };
}
