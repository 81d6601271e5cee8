import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chat, post, serviceFor, usage, type TestService } from './service.js';

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
      void answer(request).then(({ status, body }) => response.writeHead(status).end(JSON.stringify(body)));
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

  async function answer(request: IncomingMessage): Promise<{ status: number; body: object }> {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    const { authorization, 'idempotency-key': key } = request.headers;
    received.push({ path: request.url ?? '', authorization, key: String(key), body: JSON.parse(text) as unknown });
    if (failures-- > 0) return { status: 500, body: { error: { message: 'overloaded' } } };
    if (request.url === '/v1/embeddings') {
      return { status: 200, body: { data: [{ embedding: [0.5, 0.25] }], usage: { prompt_tokens: 9 } } };
    }
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

  it('embeds documents there, each part under another key', async () => {
    const form = new FormData();
    form.set('file', new File(['x'.repeat(700), '\n\n', 'y'.repeat(700)], 'two.txt', { type: 'text/plain' }));
    const { json } = await post(service, '/v1/documents', { key: 'remote-3', body: form });
    expect(json).toMatchObject({ title: 'two.txt', parts: 2 });
    expect(received.map(({ path }) => path)).toEqual(['/v1/embeddings', '/v1/embeddings']);
    expect(received[0]!.key).not.toBe(received[1]!.key);
  });
});
