import { PaymentProvider } from '../../sample-app/src/payments/payment-provider.js';
import { chat, get, isReplay, KEYS, post, rowsOf, serviceFor, until, usage, type TestService } from './service.js';

describe('the sample application', () => {
  let service: TestService;

  beforeAll(async () => {
    service = await serviceFor('sample-app.spec');
  });

  afterAll(async () => {
    await service?.close();
    await service?.database.drop();
  });

  const rows = (statement: string, values: unknown[]): Promise<any[]> =>
    rowsOf(service.database.url, statement, values);

  describe('POST /v1/chat/completions', () => {
    it('answers in the OpenAI shape and puts the call on the bill', async () => {
      const before = await usage(service);
      const { status, json } = await post(service, '/v1/chat/completions', { key: 'chat-1', body: chat('Hello?') });
      expect(status).toBe(200);
      expect(json).toEqual({
        id: expect.stringMatching(/^chatcmpl-/),
        object: 'chat.completion',
        created: expect.any(Number),
        model: 'parrot-1',
        choices: [
          {
            index: 0,
            message: { role: 'assistant', content: expect.stringContaining('Hello?'), refusal: null },
            logprobs: null,
            finish_reason: 'stop',
          },
        ],
        usage: { prompt_tokens: 2, completion_tokens: expect.any(Number), total_tokens: expect.any(Number) },
      });
      const after = await usage(service);
      expect(after.model_calls).toHaveLength(before.model_calls.length + 1);
      expect(after.model_calls.at(-1)).toMatchObject({
        ...{ operation: 'POST /v1/chat/completions', attempt: 1, kind: 'chat', model: 'parrot-1' },
        ...{ input_tokens: 2, output_tokens: json.usage.completion_tokens },
        finished_at: expect.any(String),
      });
      expect(Number(after.total_cost_usd)).toBeGreaterThan(Number(before.total_cost_usd));
    });

    it('says something else each time, but not to a retry', async () => {
      const first = await post(service, '/v1/chat/completions', { key: 'chat-2', body: chat('Again?') });
      const retry = await post(service, '/v1/chat/completions', { key: 'chat-2', body: chat('Again?') });
      const other = await post(service, '/v1/chat/completions', { key: 'chat-3', body: chat('Again?') });
      expect(isReplay(retry)).toBe(true);
      expect(retry.text).toBe(first.text);
      expect(isReplay(other)).toBe(false);
      expect(other.json.choices[0].message).not.toEqual(first.json.choices[0].message);
    });

    it('refuses what it cannot read, and the corrected request may use the same key', async () => {
      const refused = await post(service, '/v1/chat/completions', {
        key: 'chat-4',
        body: { ...chat('Live?'), stream: 'yes' },
      });
      expect(refused.status).toBe(400);
      expect(refused.json).toEqual({
        error: {
          message: 'stream must be a boolean value',
          type: 'invalid_request_error',
          param: 'stream',
          code: 'invalid_value',
        },
      });
      const corrected = await post(service, '/v1/chat/completions', { key: 'chat-4', body: chat('Live?') });
      expect(corrected.status).toBe(200);
      expect(isReplay(corrected)).toBe(false);
    });

    it.each([
      [{}, 'messages'],
      [{ messages: [] }, 'messages'],
      [{ messages: [{ role: 'owner', content: 'x' }] }, 'messages.0.role'],
      [{ messages: [{ role: 'user', content: 7 }] }, 'messages.0.content'],
      [{ ...chat('?'), stream: true, stream_options: { include_usage: 1 } }, 'stream_options.include_usage'],
    ])('refuses %j and says where', async (body, param) => {
      const { status, json } = await post(service, '/v1/chat/completions', { key: 'chat-5', body });
      expect(status).toBe(400);
      expect(json.error).toMatchObject({ type: 'invalid_request_error', param });
    });

    it('keeps tenants apart that chose the same key', async () => {
      const acme = await post(service, '/v1/chat/completions', { key: 'shared', body: chat('Whose?') });
      const before = await usage(service, KEYS.globex);
      const globex = await post(service, '/v1/chat/completions', {
        ...{ key: 'shared', apiKey: KEYS.globex },
        body: chat('Whose?'),
      });
      expect(isReplay(globex)).toBe(false);
      expect(globex.json.id).not.toBe(acme.json.id);
      const after = await usage(service, KEYS.globex);
      expect(after.tenant).toBe('globex');
      expect(after.model_calls).toHaveLength(before.model_calls.length + 1);
    });
  });

  it.each([
    ['no key', ''],
    ['an unknown key', 'sk-unknown'],
    ["an operator's key", KEYS.operator],
  ])('answers %s with a 401 that OpenAI clients can read', async (_what, apiKey) => {
    const { status, json } = await post(service, '/v1/chat/completions', { key: 'x', apiKey, body: chat('?') });
    expect(status).toBe(401);
    expect(json.error).toEqual({
      message: expect.stringContaining('API key'),
      ...{ type: 'invalid_request_error', param: null, code: 'invalid_api_key' },
    });
    expect((await get(service, '/v1/usage', apiKey)).status).toBe(401);
  });

  it('gives every other error the same shape', async () => {
    const { status, json } = await get(service, '/v1/nothing');
    expect(status).toBe(404);
    expect(json.error).toMatchObject({ type: 'invalid_request_error', message: expect.any(String) });
  });

  describe('POST /v1/documents', () => {
    const paragraphs = ['one', 'two', 'three'].map((word) => `${word} `.repeat(120).trim());

    function form(text: string, title?: string): FormData {
      const fields = new FormData();
      if (title !== undefined) fields.set('title', title);
      fields.set('file', new File([text], 'notes.txt', { type: 'text/plain' }));
      return fields;
    }

    it('embeds and stores each part, once', async () => {
      const text = paragraphs.join('\n\n');
      const before = await usage(service);
      const first = await post(service, '/v1/documents', { key: 'doc-1', body: form(text, 'Notes') });
      expect(first.status).toBe(201);
      expect(first.json).toEqual({
        id: expect.stringMatching(/^doc_/),
        ...{ object: 'document', title: 'Notes', filename: 'notes.txt', bytes: text.length, parts: 3 },
        summary: expect.stringContaining('one one'),
      });
      // Another form: another boundary.
      const retry = await post(service, '/v1/documents', { key: 'doc-1', body: form(text, 'Notes') });
      expect(isReplay(retry)).toBe(true);
      expect(retry.text).toBe(first.text);
      expect((await usage(service)).model_calls).toHaveLength(before.model_calls.length + 4);
      const stored = await rows('SELECT * FROM document_parts WHERE document_id = $1 ORDER BY position', [
        first.json.id,
      ]);
      expect(stored.map(({ content }) => content)).toEqual(paragraphs);
      expect(stored[0].embedding).toHaveLength(8);
      const [document] = await rows('SELECT summary FROM documents WHERE id = $1', [first.json.id]);
      expect(document.summary).toBe(first.json.summary);
    });

    it('refuses another text or title under the same key', async () => {
      await post(service, '/v1/documents', { key: 'doc-2', body: form('a text', 'Notes') });
      for (const other of [form('another text', 'Notes'), form('a text', 'Other notes'), form('a text')]) {
        const { status, json } = await post(service, '/v1/documents', { key: 'doc-2', body: other });
        expect([status, json.code]).toEqual([422, 'idempotency_key_reused']);
      }
    });

    it('refuses an upload without a text', async () => {
      const empty = new FormData();
      empty.set('title', 'Nothing');
      const { status, json } = await post(service, '/v1/documents', { key: 'doc-3', body: empty });
      expect(status).toBe(400);
      expect(json.error).toMatchObject({ param: 'file', code: 'missing_file' });
    });
  });

  describe('POST /v1/credits', () => {
    it('charges once for all retries', async () => {
      const first = await post(service, '/v1/credits', { key: 'buy-1', body: { credits: 30 } });
      expect(first.status).toBe(201);
      expect(first.json).toMatchObject({ object: 'credit_purchase', credits: 30, amount_cents: 30 });
      const retry = await post(service, '/v1/credits', { key: 'buy-1', body: { credits: 30 } });
      expect(retry.text).toBe(first.text);
      const bought = async (): Promise<any> =>
        (await usage(service)).credits.purchases.filter(({ id }: any) => id === first.json.id);
      await until(async () => (await bought())[0].charge !== null, 'the charge');
      const charges = (await usage(service)).credits.charges.filter(({ amount_cents }: any) => amount_cents === 30);
      expect(charges).toEqual([{ id: (await bought())[0].charge, amount_cents: 30 }]);
      expect(await bought()).toHaveLength(1);
    });

    it('sends a message again that the provider has refused, and lets others pass meanwhile', async () => {
      const payments = service.app.get(PaymentProvider);
      const charge = payments.charge.bind(payments);
      const asked: number[] = [];
      payments.charge = (request) => {
        asked.push(request.amountCents);
        if (asked.length === 1) return Promise.reject(new Error('overloaded'));
        return charge(request);
      };
      await post(service, '/v1/credits', { key: 'refused', body: { credits: 31 } });
      await until(async () => asked.length === 1, 'the refusal');
      await post(service, '/v1/credits', { key: 'passing', body: { credits: 32 } });
      const chargeOf = async (cents: number): Promise<unknown> =>
        (await usage(service)).credits.purchases.find(({ amount_cents }: any) => amount_cents === cents).charge;
      await until(async () => (await chargeOf(32)) !== null, 'the other charge');
      expect(await chargeOf(31)).toBeNull();
      await rows('UPDATE outbox_messages SET due_at = now() WHERE amount_cents = $1', [31]);
      await until(async () => (await chargeOf(31)) !== null, 'the charge');
      expect(asked).toEqual([31, 32, 31]);
      payments.charge = charge;
    });

    it('lets no handler wait for a connection that another waiting handler holds', async () => {
      const buy = (index: number): Promise<{ status: number }> =>
        post(service, '/v1/credits', { key: `crowd-${index}`, body: { credits: 1 } });
      const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => buy(index)));
      expect(answers.map(({ status }) => status)).toEqual(Array(40).fill(201));
    });

    it.each([{}, { credits: 0 }, { credits: 1.5 }, { credits: '10' }, { credits: 1e9 }])('refuses %j', async (body) => {
      const { status, json } = await post(service, '/v1/credits', { key: 'buy-2', body });
      expect(status).toBe(400);
      expect(json.error).toMatchObject({ param: 'credits', code: 'invalid_value' });
    });
  });

  describe('the operator', () => {
    const name = { tenant: 'acme', operation: 'POST /v1/chat/completions' };

    it('sees the state of a record, and not the answer', async () => {
      await post(service, '/v1/chat/completions', { key: 'seen', body: chat('Who looks?') });
      const query = new URLSearchParams({ ...name, key: 'seen' });
      const { json } = await get(service, `/operator/records?${query.toString()}`, KEYS.operator);
      expect(json).toMatchObject({ object: 'record', state: 'completed', attempt: 1 });
      expect(JSON.stringify(json)).not.toContain('Who looks?');
    });

    it('settles nothing that is settled', async () => {
      await post(service, '/v1/chat/completions', { key: 'done', body: chat('Done?') });
      for (const key of ['done', 'never-seen']) {
        const body = { ...name, key, outcome: 'rerun' };
        const { status } = await post(service, '/operator/records/resolve', { apiKey: KEYS.operator, body });
        expect(status).toBe(404);
      }
    });

    it('is nobody who has only a key of a tenant', async () => {
      const query = new URLSearchParams({ ...name, key: 'seen' });
      expect((await get(service, `/operator/records?${query.toString()}`)).status).toBe(401);
      const body = { ...name, key: 'seen', outcome: 'rerun' };
      expect((await post(service, '/operator/records/resolve', { body })).status).toBe(401);
    });
  });
});
