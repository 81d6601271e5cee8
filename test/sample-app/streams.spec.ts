import OpenAI from 'openai';
import type { ChatCompletionChunk } from 'openai/resources/chat/completions';
import { startService, type RunningService } from '../../sample-app/src/service.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { describeRedis, redisUrl } from '../support/redis-server.js';
import { KEYS, settingsAt, usage } from './service.js';

/** What a stock client has read of a stream, and the headers of it. */
interface Read {
  readonly chunks: readonly ChatCompletionChunk[];
  readonly headers: Headers;
}

/** Streams with the provider's own client; leaves after so many chunks with words in them. */
async function ask(
  { url }: { readonly url: string },
  { key, question, leaveAfter = Infinity }: { key: string; question: string; leaveAfter?: number },
): Promise<Read> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: KEYS.acme, maxRetries: 5 });
  const { data: stream, response } = await client.chat.completions
    .create(
      {
        ...{ model: 'any', messages: [{ role: 'user', content: question }] },
        ...{ stream: true, stream_options: { include_usage: true } },
      },
      { headers: { 'Idempotency-Key': key } },
    )
    .withResponse();
  const chunks: ChatCompletionChunk[] = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    if (words(chunks).length >= leaveAfter) break;
  }
  return { chunks, headers: response.headers };
}

function words(chunks: readonly ChatCompletionChunk[]): string[] {
  return chunks.map(({ choices }) => choices[0]?.delta.content ?? '').filter((content) => content !== '');
}

function streamsOf(store: string, env: () => Record<string, string>): void {
  describe(`streamed chat completions with records in ${store}`, () => {
    let database: TestDatabase;
    let one: RunningService;
    let two: RunningService;
    const newKey = (name: string): string => `${name}-${process.pid}-${Date.now()}`;

    beforeAll(async () => {
      database = await createTestDatabase(`sample-app/streams.spec/${store}`);
      const settings = settingsAt(database.url, { LEASE: '2s', TOKEN_DELAY_MS: '30', ...env() });
      one = await startService(settings, { logger: false });
      two = await startService(settings, { logger: false });
    });

    afterAll(async () => {
      await Promise.all([one?.close(), two?.close()]);
      await database?.drop();
    });

    it('reach a stock client chunk by chunk, and the bill once', async () => {
      const before = await usage(one);
      const question = { key: newKey('first'), question: 'Will it stream?' };
      const first = await ask(one, question);
      expect(first.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
      expect(first.headers.get('idempotency-stream')).toBe('live');
      expect(words(first.chunks).join('')).toContain('Will it stream?');
      expect(words(first.chunks).length).toBeGreaterThan(10);
      const [opening] = first.chunks;
      expect(opening!.choices[0]!.delta.role).toBe('assistant');
      expect(new Set(first.chunks.map(({ id }) => id)).size).toBe(1);
      expect(first.chunks.at(-2)!.choices[0]!.finish_reason).toBe('stop');
      const total = first.chunks.at(-1)!;
      expect(total).toMatchObject({ choices: [], usage: { prompt_tokens: 4, completion_tokens: expect.any(Number) } });
      for (const app of [one, two]) {
        const replay = await ask(app, question);
        expect(replay.headers.get('idempotent-replayed')).toBe('true');
        expect(replay.headers.get('idempotency-stream')).toBe('complete');
        expect(replay.chunks).toEqual(first.chunks);
      }
      const after = await usage(one);
      expect(after.model_calls).toHaveLength(before.model_calls.length + 1);
      expect(after.model_calls.at(-1)).toMatchObject({
        ...{ attempt: 1, kind: 'chat', input_tokens: 4, output_tokens: total.usage!.completion_tokens },
        finished_at: expect.any(String),
      });
    });

    it('go on when the client is gone: the same call again gets all of the one generation', async () => {
      const before = await usage(one);
      const question = { key: newKey('dropped'), question: 'Are you still there?' };
      const seen = await ask(one, { ...question, leaveAfter: 5 });
      const again = await ask(two, question);
      expect(again.headers.get('idempotent-replayed')).toBe('true');
      expect(again.headers.get('idempotency-stream')).toBe('live');
      expect(words(again.chunks).slice(0, 5)).toEqual(words(seen.chunks));
      expect(again.chunks.at(-2)!.choices[0]!.finish_reason).toBe('stop');
      expect((await usage(one)).model_calls).toHaveLength(before.model_calls.length + 1);
    });

    it('are one for five clients at once', async () => {
      const before = await usage(one);
      const question = { key: newKey('five'), question: 'Who is asking?' };
      const all = await Promise.all([one, two, one, two, one].map((app) => ask(app, question)));
      for (const { chunks } of all) expect(chunks).toEqual(all[0]!.chunks);
      expect((await usage(one)).model_calls).toHaveLength(before.model_calls.length + 1);
    });
  });
}

describeRedis('with REDIS_URL', () => streamsOf('Redis', () => ({ REDIS_URL: redisUrl() })));
streamsOf('Postgres', () => ({ REDIS_URL: '' }));
