import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { chat, post, postStream, serviceFor, usage, type TestService } from './service.js';

/** An answer in pieces that are cut without regard to lines and letters. */
function eventStream(breaksOff: boolean): Buffer[] {
  const tokens = ['', 'From ', 'afär', ', 🛰️', ' live.'].map((content) => ({ choices: [{ delta: { content } }] }));
  const end = { choices: [], usage: { prompt_tokens: 11, completion_tokens: 5 } };
  const lines = [...tokens, end].map((chunk) => `data: ${JSON.stringify(chunk)}\r\n\r\n`);
  const bytes = Buffer.from(breaksOff ? lines.slice(0, 3).join('') : `: hello\n\n${lines.join('')}data: [DONE]\n\n`);
  return Array.from({ length: Math.ceil(bytes.length / 7) }, (_, index) => bytes.subarray(index * 7, index * 7 + 7));
}

interface Received {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly key: string;
  readonly body: any;
}

describe('the sample application with an OpenAI-compatible endpoint', () => {
  const received: Received[] = [];
  let failures = 0;
  let provider: Server;
  let service: TestService;

  beforeAll(async () => {
    provider = createServer((request, response) => {
      void answer(request).then(async ({ status, body }) => {
        response.writeHead(status);
        if (!Array.isArray(body)) return response.end(JSON.stringify(body));
        for (const piece of body) {
          response.write(piece);
          await pause(5);
        }
        return response.end();
      });
    });
    await new Promise<void>((done) => provider.listen(0, '127.0.0.1', done));
    service = await serviceFor('remote-model.spec', {
      MODEL_BASE_URL: `http://127.0.0.1:${(provider.address() as AddressInfo).port}/v1/`,
      MODEL_API_KEY: 'provider-secret',
      MODEL_NAME: 'large-1',
    });
  });

  afterAll(async () => {
    await service?.close();
    await service?.database.drop();
    provider.close();
  });

  beforeEach(() => {
    received.length = 0;
  });

  async function answer(request: IncomingMessage): Promise<{ status: number; body: object | Buffer[] }> {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    const { authorization, 'idempotency-key': key } = request.headers;
    received.push({ path: request.url ?? '', authorization, key: String(key), body: JSON.parse(text) as unknown });
    if (failures-- > 0) return { status: 500, body: { error: { message: 'overloaded' } } };
    if (request.url === '/v1/embeddings') {
      return { status: 200, body: { data: [{ embedding: [0.5, 0.25] }], usage: { prompt_tokens: 9 } } };
    }
    if (received.at(-1)!.body.stream === true) return { status: 200, body: eventStream(text.includes('Break!')) };
    const message = { role: 'assistant', content: 'From afar.' };
    return { status: 200, body: { choices: [{ message }], usage: { prompt_tokens: 11, completion_tokens: 4 } } };
  }

  it('passes the request on with a key of its own for the provider', async () => {
    const { status, json } = await post(service, '/v1/chat/completions', { key: 'remote-1', body: chat('Far?') });
    expect(status).toBe(200);
    expect(json).toMatchObject({ model: 'large-1', usage: { total_tokens: 15 } });
    expect(json.choices[0].message.content).toBe('From afar.');
    expect(received).toEqual([
      {
        path: '/v1/chat/completions',
        authorization: 'Bearer provider-secret',
        key: expect.stringMatching(/^idem_[\w-]{43}$/),
        body: { model: 'large-1', messages: [{ role: 'user', content: 'Far?' }] },
      },
    ]);
    expect((await usage(service)).model_calls.at(-1)).toMatchObject({ input_tokens: 11, output_tokens: 4 });
  });

  it('asks again under the same provider key when the provider has failed', async () => {
    failures = 1;
    const failed = await post(service, '/v1/chat/completions', { key: 'remote-2', body: chat('Still far?') });
    expect(failed.status).toBe(502);
    expect(failed.json.error).toMatchObject({ type: 'server_error' });
    const retry = await post(service, '/v1/chat/completions', { key: 'remote-2', body: chat('Still far?') });
    expect(retry.status).toBe(200);
    expect(retry.headers.has('idempotent-replayed')).toBe(false);
    expect(received).toHaveLength(2);
    expect(received[1]!.key).toBe(received[0]!.key);
    const { model_calls } = await usage(service);
    expect(model_calls.at(-2)).toMatchObject({ attempt: 1, finished_at: null });
    expect(model_calls.at(-1)).toMatchObject({ attempt: 2, finished_at: expect.any(String) });
  });

  describe('with stream: true', () => {
    const streamed = (question: string, more: object = {}): object => ({ ...chat(question), stream: true, ...more });

    it('passes the tokens on as they come, and bills what the endpoint has counted', async () => {
      const call = { key: 'remote-stream-1', body: streamed('Far?', { stream_options: { include_usage: true } }) };
      const { status, chunks, done } = await postStream(service, call);
      expect(status).toBe(200);
      expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('From afär, 🛰️ live.');
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 11, completion_tokens: 5 } });
      expect(done).toBe(true);
      expect(received).toHaveLength(1);
      expect(received[0]!.body).toMatchObject({ model: 'large-1', stream: true });
      expect((await usage(service)).model_calls.at(-1)).toMatchObject({ input_tokens: 11, output_tokens: 5 });
      expect((await postStream(service, call)).chunks).toEqual(chunks);
      expect(received).toHaveLength(1);
    });

    it('answers 502 while there is no token yet, and asks again', async () => {
      failures = 1;
      const call = { key: 'remote-stream-2', body: streamed('Still far?') };
      const failed = await post(service, '/v1/chat/completions', call);
      expect([failed.status, failed.json.error.code]).toEqual([502, 'model_unavailable']);
      expect(await postStream(service, call)).toMatchObject({ status: 200, done: true });
      expect(received.map(({ key }) => key)).toEqual([received[0]!.key, received[0]!.key]);
    });

    it('has no end where the endpoint breaks off, now or later', async () => {
      const call = { key: 'remote-stream-3', body: streamed('Break!') };
      const broken = await postStream(service, call);
      expect(broken).toMatchObject({ status: 200, done: false });
      expect(broken.text).toContain('event: idempotency.failed');
      expect((await postStream(service, call)).text).toBe(broken.text);
      expect(received).toHaveLength(1);
      expect((await usage(service)).model_calls.at(-1)).toMatchObject({ finished_at: null });
    });
  });

  it('embeds documents there, each part under another key', async () => {
    const form = new FormData();
    form.set('file', new File(['x'.repeat(700), '\n\n', 'y'.repeat(700)], 'two.txt', { type: 'text/plain' }));
    const { json } = await post(service, '/v1/documents', { key: 'remote-3', body: form });
    expect(json).toMatchObject({ title: 'two.txt', parts: 2 });
    const paths = ['/v1/embeddings', '/v1/embeddings', '/v1/chat/completions'];
    expect(received.map(({ path }) => path)).toEqual(paths);
    expect(new Set(received.map(({ key }) => key)).size).toBe(3);
    expect(json.summary).toBe('From afar.');
  });
});
