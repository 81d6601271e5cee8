import OpenAI from 'openai';
import { PLATFORMS, startProviderApp, TOKENS, type ProviderApp } from './provider-app.js';

interface Streamed {
  readonly tokens: readonly string[];
  readonly ids: ReadonlySet<string>;
  readonly standing: string | null;
}

describe.each(PLATFORMS)('streams of the stock client openai on %s', (platform) => {
  let app: ProviderApp;

  beforeAll(async () => {
    app = await startProviderApp(platform);
  });

  afterAll(() => app?.close());

  beforeEach(() => {
    app.work.runs.length = app.work.plans.length = app.seen.length = 0;
    app.work.tokenDelayMs = 5;
    app.store.heal();
  });

  /** Reads to the end, or leaves after so many tokens. */
  async function stream(key: string, leaveAfter = Infinity): Promise<Streamed> {
    const client = new OpenAI({ baseURL: `${app.url}/v1/streamed`, apiKey: 'sk-test', maxRetries: 5 });
    const { data, response } = await client.chat.completions
      .create(
        { model: 'm', messages: [{ role: 'user', content: 'question' }], stream: true },
        { headers: { 'Idempotency-Key': key } },
      )
      .withResponse();
    const tokens: string[] = [];
    const ids = new Set<string>();
    for await (const { id, choices } of data) {
      ids.add(id);
      tokens.push(choices[0]!.delta.content!);
      if (tokens.length >= leaveAfter) break;
    }
    return { tokens, ids, standing: response.headers.get('idempotency-stream') };
  }

  it('arrive token by token, and are replayed whole', async () => {
    expect(await stream('whole')).toEqual({ tokens: TOKENS, ids: new Set(['run_1']), standing: 'live' });
    expect(await stream('whole')).toEqual({ tokens: TOKENS, ids: new Set(['run_1']), standing: 'complete' });
    expect(app.work.runs).toHaveLength(1);
  });

  it('go on without their client, which asks again and gets all of the one generation', async () => {
    app.work.tokenDelayMs = 30;
    expect((await stream('dropped', 7)).tokens).toEqual(TOKENS.slice(0, 7));
    expect(await stream('dropped')).toEqual({ tokens: TOKENS, ids: new Set(['run_1']), standing: 'live' });
    expect(app.work.runs).toHaveLength(1);
  });

  it('are asked for again by the client itself when the connection is lost before the first token', async () => {
    app.work.plans.push((request) => void request.socket.destroy());
    expect(await stream('early')).toMatchObject({ tokens: TOKENS, ids: new Set(['run_1']) });
    expect(app.work.runs).toHaveLength(1);
    expect(app.seen.length).toBeGreaterThan(1);
  });

  it('are one for three clients at once', async () => {
    app.work.tokenDelayMs = 20;
    const all = await Promise.all([stream('three'), stream('three'), stream('three')]);
    for (const { tokens, ids } of all) expect([tokens, ids]).toEqual([TOKENS, new Set(['run_1'])]);
    expect(app.work.runs).toHaveLength(1);
  });
});
