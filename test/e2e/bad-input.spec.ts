import { Body, Controller, Logger, Post, Query, Param, UploadedFile, UseInterceptors } from '@nestjs/common';
import { FileInterceptor } from '@nestjs/platform-express';
import { connect } from 'node:net';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { Idempotent, memoryStore, type IdempotencyStore } from 'nestjs-idempotency';
import { ADAPTERS, startApp, type RunningApp } from './support/app.js';
import { send, type Answer } from './support/http-client.js';

let runs = 0;

@Controller('v1')
@Idempotent()
class ThingsController {
  @Post('things') create(@Body() body: unknown) {
    runs += 1;
    return { runs, body: body ?? null };
  }
  @Post('things/:id') update(@Param('id') id: string, @Query() query: unknown) {
    runs += 1;
    return { runs, id, query };
  }
  @Post('omit')
  @Idempotent({ fingerprint: { omit: ['meta.sentAt', 'items.*.nonce'], headers: ['api-version'] } })
  omit() {
    runs += 1;
    return { runs };
  }
  @Post('unchecked') @Idempotent({ fingerprint: false }) unchecked() {
    runs += 1;
    return { runs };
  }
  @Post('keyless') @Idempotent({ key: 'fingerprint', retention: '10m' }) keyless() {
    runs += 1;
    return { runs };
  }
}

@Controller('uploads')
@Idempotent()
class UploadsController {
  @Post() @UseInterceptors(FileInterceptor('file')) upload(
    @UploadedFile() file: { size: number } | undefined,
    @Body() body: unknown,
  ) {
    runs += 1;
    return { runs, size: file?.size, body };
  }
  @Post('unread') unread() {
    runs += 1;
    return { runs };
  }
}

/** Sends bytes as they are and gives back all that comes until the server closes. */
function sendBytes(
  url: string,
  lines: readonly (string | Buffer)[],
  body = '{}',
): Promise<{ status: number; text: string }> {
  const { port, hostname } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => {
      const text = Buffer.concat(chunks).toString('latin1');
      resolve({ status: Number(text.slice(9, 12)), text });
    });
    socket.write('POST /v1/things HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n');
    for (const line of lines) {
      socket.write(line);
      socket.write('\r\n');
    }
    socket.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  });
}

function countingStore(): { store: IdempotencyStore; claims: () => number } {
  const store = memoryStore();
  let claims = 0;
  const claim = store.claim.bind(store);
  store.claim = (request) => {
    claims += 1;
    return claim(request);
  };
  return { store, claims: () => claims };
}

describe.each(ADAPTERS)('bad and odd input on %s', (adapter) => {
  let running: RunningApp;
  let claims: () => number;
  const logged: string[] = [];

  beforeAll(async () => {
    const counting = countingStore();
    claims = counting.claims;
    running = await startApp({
      adapter,
      controllers: [ThingsController],
      rawBody: true,
      idempotency: { store: counting.store, replayCache: false },
    });
    Logger.overrideLogger({
      log: () => undefined,
      warn: (m: unknown) => logged.push(String(m)),
      error: (m: unknown) => logged.push(String(m)),
    });
  });
  afterAll(() => running.close());
  beforeEach(() => {
    runs = 0;
  });
  const post = (body: unknown, headers: Record<string, string> = {}, path = 'things') =>
    send(`${running.url}/v1/${path}`, { body, headers });
  const expectProblem = (answer: Answer | { status: number; text: string }, status: number, code: string): void => {
    expect(answer.status).toBe(status);
    expect(answer.text).toContain(`"code":"${code}"`);
  };

  it.each<[string, (string | Buffer)[]]>([
    ['empty', ['Idempotency-Key:']],
    ['blank', ['Idempotency-Key:    ']],
    ['empty string', ['Idempotency-Key: ""']],
    ['unbalanced quote', ['Idempotency-Key: "abc']],
    ['quote in the middle', ['Idempotency-Key: ab"c']],
    ['bad escape', ['Idempotency-Key: "a\\b"']],
    ['text behind the quote', ['Idempotency-Key: "a"b']],
    ['two lines', ['Idempotency-Key: a', 'Idempotency-Key: b']],
    ['two equal lines', ['Idempotency-Key: a', 'idempotency-key: a']],
    ['two lines that make one string', ['Idempotency-Key: "a', 'Idempotency-Key: b"']],
    ['a list', ['Idempotency-Key: a, b']],
    ['a list of strings', ['Idempotency-Key: "a", "b"']],
    ['a tab inside', ['Idempotency-Key: a\tb']],
    ['bytes beyond ASCII', [Buffer.from('Idempotency-Key: caf\u00e9', 'latin1')]],
    ['UTF-8', [Buffer.from('Idempotency-Key: k\u{1f600}')]],
    ['256 bytes', [`Idempotency-Key: ${'a'.repeat(256)}`]],
    ['256 quoted', [`Idempotency-Key: "${'a'.repeat(256)}"`]],
    ['10 kB', [`Idempotency-Key: ${'a'.repeat(10_000)}`]],
  ])('a key that is invalid (%s) gets 400, nothing is stored, nothing is logged', async (_name, lines) => {
    const before = claims();
    expectProblem(await sendBytes(running.url, lines), 400, 'idempotency_key_invalid');
    expect(claims()).toBe(before);
    expect(runs).toBe(0);
    expect(logged.join()).not.toContain('aaaa');
  });

  it('no key gets 400 idempotency_key_missing with a link to the documentation', async () => {
    const answer = await post({});
    expectProblem(answer, 400, 'idempotency_key_missing');
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.json()).toMatchObject({
      type: expect.stringMatching(/^https:\/\//),
      title: expect.any(String),
      status: 400,
      detail: expect.stringContaining('Idempotency-Key'),
    });
  });

  it('quoted, with escapes and parameters, or bare: one key; upper and lower case: two', async () => {
    await post({ a: 1 }, { 'idempotency-key': 'k-1' });
    await post({ a: 1 }, { 'idempotency-key': '"k-1"' });
    await post({ a: 1 }, { 'idempotency-key': '"k-1";v=1;foo="b;a"' });
    expect(runs).toBe(1);
    await post({ a: 1 }, { 'idempotency-key': 'K-1' });
    expect(runs).toBe(2);
    await post({ a: 1 }, { 'idempotency-key': `"${'x'.repeat(255)}"` });
    await post({ a: 1 }, { 'idempotency-key': 'x'.repeat(255) });
    expect(runs).toBe(3);
  });

  const pair = async (
    name: string,
    one: string,
    other: string,
    headers: Record<string, string> = {},
  ): Promise<number> => {
    const key = `"pair ${name}"`;
    await post(one, { 'idempotency-key': key, ...headers });
    return (await post(other, { 'idempotency-key': key, ...headers })).status;
  };

  it.each([
    ['members in another order', '{"a":1,"b":{"c":2,"d":3}}', '{ "b": {"d":3,"c":2}, "a":1 }'],
    ['1.0 and 1', '{"a":1.0}', '{"a":1}'],
    ['100 and 1e2', '{"a":100}', '{"a":1e2}'],
    ['escapes', '{"a":"\\u0041/"}', '{"a":"A\\/"}'],
    ['a name twice: what the handler sees', '{"a":1,"a":2}', '{"a":2}'],
    ['big integers written alike', '{"a":9007199254740993}', '{ "a": 9007199254740993 }'],
  ])('%s: the same request', async (name, one, other) => {
    expect(await pair(name, one, other)).toBe(201);
    expect(runs).toBe(1);
  });

  it.each([
    ['null and absent', '{"a":null}', '{}'],
    ['arrays in another order', '{"a":[1,2]}', '{"a":[2,1]}'],
    ['NFC and NFD', '{"a":"\u00e9"}', '{"a":"e\u0301"}'],
    ['big integers', '{"a":9007199254740993}', '{"a":9007199254740992}'],
    ['number and text', '{"a":1}', '{"a":"1"}'],
    ['another value', '{"a":1}', '{"a":2}'],
    ['a member named constructor', '{"constructor":{"a":1}}', '{}'],
  ])('%s: another request', async (name, one, other) => {
    expect(await pair(name, one, other)).toBe(422);
    expect(runs).toBe(1);
  });

  it('query order does not matter, a query value and the path do', async () => {
    const k = { 'idempotency-key': 'query' };
    await post({}, k, 'things/1?a=1&b=2&a=3');
    expect((await post({}, k, 'things/1?b=2&a=1&a=3')).status).toBe(201);
    expect((await post({}, k, 'things/%31?b=2&a=1&a=3')).status).toBe(201);
    expect((await post({}, k, 'things/1?b=2&a=3&a=1')).status).toBe(422);
    expect((await post({}, k, 'things/1?a=1&b=3&a=3')).status).toBe(422);
    expect((await post({}, k, 'things/2?a=1&b=2&a=3')).status).toBe(422);
    expect(runs).toBe(1);
  });

  it('who asks, which attempt it is and how it is traced are no part of the fingerprint; a chosen header is', async () => {
    const k = 'headers';
    await post(
      {},
      {
        'idempotency-key': k,
        authorization: 'Bearer a',
        'x-stainless-retry-count': '0',
        traceparent: '1',
        cookie: 'a=1',
      },
    );
    const again = await post(
      {},
      { 'idempotency-key': k, authorization: 'Bearer b', 'x-stainless-retry-count': '1', traceparent: '2' },
    );
    expect(again.status).toBe(201);
    await post(
      { meta: { sentAt: 1, by: 'x' }, items: [{ nonce: 1, id: 1 }] },
      { 'idempotency-key': k, 'api-version': '1' },
      'omit',
    );
    expect(
      (
        await post(
          { meta: { sentAt: 2, by: 'x' }, items: [{ nonce: 9, id: 1 }] },
          { 'idempotency-key': k, 'api-version': '1' },
          'omit',
        )
      ).status,
    ).toBe(201);
    expect(
      (
        await post(
          { meta: { sentAt: 2, by: 'y' }, items: [{ nonce: 9, id: 1 }] },
          { 'idempotency-key': k, 'api-version': '1' },
          'omit',
        )
      ).status,
    ).toBe(422);
    expect(
      (
        await post(
          { meta: { sentAt: 2, by: 'x' }, items: [{ nonce: 9, id: 1 }] },
          { 'idempotency-key': k, 'api-version': '2' },
          'omit',
        )
      ).status,
    ).toBe(422);
    await post({ a: 1 }, { 'idempotency-key': k }, 'unchecked');
    expect((await post({ a: 2 }, { 'idempotency-key': k }, 'unchecked')).status).toBe(201);
    expect(runs).toBe(3);
  });

  it('keyless: equal requests are one, a sent key wins', async () => {
    await post({ a: 1 }, {}, 'keyless');
    expect((await post({ a: 1 }, {}, 'keyless')).headers['idempotent-replayed']).toBe('true');
    await post({ a: 2 }, {}, 'keyless');
    await post({ a: 1 }, { 'idempotency-key': 'own' }, 'keyless');
    expect(runs).toBe(3);
  });

  it('bodies: none, malformed, gzip, deep and large have an answer and store nothing they should not', async () => {
    const none = await send(`${running.url}/v1/things`, { headers: { 'idempotency-key': 'none' } });
    expect(none.status).toBe(201);
    const before = claims();
    const malformed = await post('{"a":', { 'idempotency-key': 'malformed' });
    expect(malformed.status).toBe(400);
    expect(claims()).toBe(before);
    const deep = `${'['.repeat(1000)}1${']'.repeat(1000)}`;
    expect((await post(deep, { 'idempotency-key': 'deep' })).status).toBe(201);
    expect((await post(deep, { 'idempotency-key': 'deep' })).status).toBe(201);
    if (adapter === 'express') {
      const zipped = gzipSync('{"a":1}');
      const first = await send(`${running.url}/v1/things`, {
        body: zipped,
        headers: { 'idempotency-key': 'gz', 'content-encoding': 'gzip' },
      });
      expect(first.json()).toMatchObject({ body: { a: 1 } });
      expect((await post({ a: 1 }, { 'idempotency-key': 'gz' })).status).toBe(201);
      expect(
        (
          await send(`${running.url}/v1/things`, {
            body: deflateRawSync('x'),
            headers: { 'idempotency-key': 'gz2', 'content-encoding': 'gzip' },
          })
        ).status,
      ).toBe(400);
    }
    const huge = await post({ a: 'x'.repeat(2 * 1024 * 1024) }, { 'idempotency-key': 'huge' });
    expect(huge.status).toBe(413);
  });
});

describe('uploads on express', () => {
  let running: RunningApp;
  beforeAll(async () => {
    running = await startApp({ adapter: 'express', controllers: [UploadsController] });
  });
  afterAll(() => running.close());
  beforeEach(() => {
    runs = 0;
  });

  const upload = async (
    content: string,
    { name = 'a.txt', field = 'x', key = 'up', path = 'uploads' } = {},
  ): Promise<Answer> => {
    const boundary = `b${Math.random().toString(36).slice(2)}`;
    const body = [
      `--${boundary}\r\nContent-Disposition: form-data; name="note"\r\n\r\n${field}\r\n`,
      `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${name}"\r\nContent-Type: text/plain\r\n\r\n${content}\r\n`,
      `--${boundary}--\r\n`,
    ].join('');
    return send(`${running.url}/${path}`, {
      body,
      headers: { 'idempotency-key': key, 'content-type': `multipart/form-data; boundary=${boundary}` },
    });
  };

  it('the same parts under another boundary are the same request; another file, name or field is not', async () => {
    const first = await upload('hello');
    const again = await upload('hello');
    expect(first.json()).toMatchObject({ runs: 1, size: 5, body: { note: 'x' } });
    expect(again.text).toBe(first.text);
    expect(again.headers['idempotent-replayed']).toBe('true');
    for (const other of [
      await upload('hullo'),
      await upload('hello', { name: 'b.txt' }),
      await upload('hello', { field: 'y' }),
    ]) {
      expect(other.status).toBe(422);
    }
    expect(runs).toBe(1);
  });

  it('two simultaneous uploads of one key run once', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => upload('hello', { key: 'many' })));
    expect(runs).toBe(1);
    for (const { status } of answers) expect([201, 409]).toContain(status);
  });

  it('an upload that nobody has read is refused with an error that says what to do', async () => {
    const answer = await upload('hello', { path: 'uploads/unread', key: 'unread' });
    expect(answer.status).toBe(500);
    expect(runs).toBe(0);
  });
});

it('a second forRoot in one application is refused at boot', async () => {
  const { IdempotencyModule } = await import('nestjs-idempotency');
  await expect(
    startApp({
      adapter: 'express',
      controllers: [],
      imports: [IdempotencyModule.forRoot({ store: memoryStore(), scope: () => 'other' })],
    }),
  ).rejects.toThrow(/imported more than once/);
});
