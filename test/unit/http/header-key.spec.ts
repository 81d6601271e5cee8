import { connect } from 'node:net';
import type { IncomingMessage } from 'node:http';
import { IdempotencyKeyInvalidError } from '../../../lib/core/errors.js';
import { readHeaderKey } from '../../../lib/http/header-key.js';
import { serve, type TestServer } from './servers.js';

let server: TestServer;
let read: (request: IncomingMessage) => string | undefined;
let result: { key?: string | undefined; error?: unknown } | undefined;

beforeAll(async () => {
  server = await serve((req, res) => {
    try {
      result = { key: read(req) };
    } catch (error) {
      result = { error };
    }
    res.end();
  });
});
afterAll(() => server.close());

/** Sends these field lines as they are, through Node's own parser. */
async function keyIn(lines: string[], header = 'Idempotency-Key'): Promise<NonNullable<typeof result>> {
  read = (request) => readHeaderKey(request, header);
  result = undefined;
  const socket = connect(server.port, '127.0.0.1');
  const bytes = ['POST / HTTP/1.1', 'Host: t', 'Connection: close', ...lines, '', ''].join('\r\n');
  socket.end(Buffer.from(bytes, 'latin1'));
  socket.resume();
  await new Promise((resolve) => socket.on('close', resolve));
  return result ?? { error: new Error('refused by the HTTP parser') };
}

describe('the key in a header', () => {
  it.each([
    [['Idempotency-Key: k'], 'k'],
    [['IDEMPOTENCY-KEY: k'], 'k'],
    [['idempotency-key: "k"'], 'k'],
    [['idempotency-key:   "k";a=1  '], 'k'],
    [['idempotency-key: "a, b"'], 'a, b'],
    [['x-other: a', 'idempotency-key: k', 'x-other: b'], 'k'],
  ])('%j is %j', async (lines, key) => {
    expect(await keyIn(lines)).toEqual({ key });
  });

  it('is undefined where there is none', async () => {
    expect(await keyIn(['x-idempotency-key: k', 'idempotency-key-2: k'])).toEqual({ key: undefined });
  });

  it.each([
    [['Idempotency-Key: a', 'idempotency-key: b'], 'more than once'],
    [['Idempotency-Key: a', 'idempotency-key: a'], 'more than once'],
    [['idempotency-key: "a', 'idempotency-key: b"'], 'more than once'],
    [['idempotency-key: "a"', 'idempotency-key: "b"'], 'more than once'],
    [['idempotency-key: k', 'idempotency-key:'], 'more than once'],
    [['idempotency-key: a, b'], 'is a list'],
    [['idempotency-key:'], 'is empty'],
    [['idempotency-key:    '], 'is empty'],
    [['idempotency-key: ""'], 'is empty'],
    [['idempotency-key: a\tb'], 'not printable ASCII'],
    [['idempotency-key: caf\u00e9'], 'not printable ASCII'],
    [[`idempotency-key: ${'k'.repeat(256)}`], 'longer than 255 bytes'],
    [[`idempotency-key: "${'k'.repeat(10_000)}"`], 'longer than 255 bytes'],
  ])('%j is refused: %s', async (lines, why) => {
    const { error } = await keyIn(lines);
    expect(error).toBeInstanceOf(IdempotencyKeyInvalidError);
    expect((error as Error).message).toContain(why);
  });

  it('has the name that the route gives it', async () => {
    expect(await keyIn(['X-Request-Key: k', 'Idempotency-Key: other'], 'X-Request-Key')).toEqual({ key: 'k' });
    const { error } = await keyIn(['X-Request-Key: a b'], 'X-Request-Key');
    expect((error as Error).message).toMatch(/^X-Request-Key /);
  });
});
