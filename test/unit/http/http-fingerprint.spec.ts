import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from '@nestjs/common';
import fc from 'fast-check';
import { HttpExchange } from '../../../lib/http/http-request.js';
import { httpFingerprint, type HttpFingerprintOptions } from '../../../lib/http/http-fingerprint.js';
import { UnreadableBodyError } from '../../../lib/http/unreadable-body.js';

interface FakeRequest {
  method?: string;
  url?: string;
  headers?: Record<string, string>;
  body?: unknown;
  rawBody?: Buffer;
  file?: unknown;
  files?: unknown;
  readableEnded?: boolean;
}

function exchange(request: FakeRequest): HttpExchange {
  const whole = { method: 'POST', url: '/v1/charges', readableEnded: true, ...request, headers: request.headers ?? {} };
  const http = { getRequest: () => whole, getResponse: () => ({ statusCode: 201 }) };
  return new HttpExchange({ switchToHttp: () => http } as unknown as ExecutionContext);
}

function fingerprint(request: FakeRequest, options: Partial<HttpFingerprintOptions> = {}): Promise<string> {
  return httpFingerprint(exchange(request), { headers: [], omit: [], ...options });
}

async function same(a: FakeRequest, b: FakeRequest, options?: Partial<HttpFingerprintOptions>): Promise<boolean> {
  return (await fingerprint(a, options)) === (await fingerprint(b, options));
}

const JSON_HEADERS = { 'content-type': 'application/json' };
const json = (text: string): FakeRequest => ({ headers: JSON_HEADERS, body: JSON.parse(text) as unknown });
const withRaw = (text: string): FakeRequest => ({ ...json(text), rawBody: Buffer.from(text) });

describe('the fingerprint of method and URL', () => {
  it.each([
    ['another method', { method: 'POST' }, { method: 'PUT' }],
    ['another path', { url: '/a' }, { url: '/b' }],
    ['another route parameter', { url: '/orders/1/pay' }, { url: '/orders/2/pay' }],
    ['another query value', { url: '/a?x=1' }, { url: '/a?x=2' }],
    ['another query name', { url: '/a?x=1' }, { url: '/a?y=1' }],
    ['a query and none', { url: '/a?x=1' }, { url: '/a' }],
    ['values of one name in another order', { url: '/a?x=1&x=2' }, { url: '/a?x=2&x=1' }],
    ['one value more', { url: '/a?x=1' }, { url: '/a?x=1&x=1' }],
    ['an escaped ampersand and a second member', { url: '/a?x=1%26y=2' }, { url: '/a?x=1&y=2' }],
    ['an escaped equals sign', { url: '/a?x%3D1=2' }, { url: '/a?x=1=2' }],
    ['a plus that is a space and one that is a plus', { url: '/a?x=1+2' }, { url: '/a?x=1%2B2' }],
    ['an escaped slash and a slash', { url: '/a%2Fb' }, { url: '/a/b' }],
    ['an escaped slash and its escaped escape', { url: '/a%2Fb' }, { url: '/a%252Fb' }],
    ['an escaped question mark and a query', { url: '/a%3Fx=1' }, { url: '/a?x=1' }],
    ['bytes that are no UTF-8', { url: '/a?x=%FF' }, { url: '/a?x=%FE' }],
    ['bytes that are no UTF-8, in the path', { url: '/a%FF' }, { url: '/a%FE' }],
    ['a byte that is no UTF-8 and its escaped escape', { url: '/a?x=%FF' }, { url: '/a?x=%25FF' }],
    ['upper and lower case in a value', { url: '/a?x=A' }, { url: '/a?x=a' }],
    ['NFC and NFD', { url: '/a?x=%C3%A9' }, { url: '/a?x=e%CC%81' }],
    ['a slash at the end', { url: '/a' }, { url: '/a/' }],
    ['path and query in other places', { url: '/a/b' }, { url: '/a?b' }],
  ])('is another one for %s', async (_what, a, b) => {
    expect(await same(a, b)).toBe(false);
  });

  it.each([
    ['query members of different names in another order', { url: '/a?x=1&y=2' }, { url: '/a?y=2&x=1' }],
    ['names in another order, with values of one name in theirs', { url: '/a?x=1&y=0&x=2' }, { url: '/a?y=0&x=1&x=2' }],
    ['a value that need not be escaped', { url: '/a?x=%61' }, { url: '/a?x=a' }],
    ['escapes in upper and lower case', { url: '/a?x=%c3%a9' }, { url: '/a?x=%C3%A9' }],
    ['a space as plus and as escape', { url: '/a?x=1+2' }, { url: '/a?x=1%202' }],
    ['an empty query and none', { url: '/a?' }, { url: '/a' }],
    ['an escaped letter in the path', { url: '/%61b' }, { url: '/ab' }],
    ['an escaped sign in the path', { url: '/x%40y' }, { url: '/x@y' }],
    ['an escaped sign in another segment', { url: '/a%20b/x%2By' }, { url: '/a%20b/x+y' }],
  ])('is the same for %s', async (_what, a, b) => {
    expect(await same(a, b)).toBe(true);
  });

  it('is of the URL as the client sent it, where a mounted router has shortened it', async () => {
    const mounted = { url: '/charges', originalUrl: '/v1/charges' } as FakeRequest;
    expect(await same(mounted, { url: '/v1/charges' })).toBe(true);
    expect(await same(mounted, { url: '/charges' })).toBe(false);
  });

  it('does not depend on the order in which members of different names are sent', async () => {
    const member = fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.string({ maxLength: 4 }));
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(member, { selector: ([name]) => name }), async (members) => {
        const query = (list: typeof members): string => list.map(([n, v]) => `${n}=${encodeURIComponent(v)}`).join('&');
        expect(await same({ url: `/a?${query(members)}` }, { url: `/a?${query([...members].reverse())}` })).toBe(true);
      }),
    );
  });

  it('tells any two queries apart that mean different members', async () => {
    const member = fc.tuple(
      fc.constantFrom('a', 'b'),
      fc.string({ unit: fc.constantFrom('1', '&', '=', '%', '+', ' ', '\u00e9'), maxLength: 3 }),
    );
    const members = fc.array(member, { maxLength: 3 });
    const meaning = (list: [string, string][]): string =>
      JSON.stringify(['a', 'b'].map((name) => list.filter(([n]) => n === name).map(([, value]) => value)));
    await fc.assert(
      fc.asyncProperty(members, members, async (a, b) => {
        const url = (list: [string, string][]): string =>
          `/a?${list.map(([n, v]) => `${n}=${encodeURIComponent(v)}`).join('&')}`;
        expect(await same({ url: url(a) }, { url: url(b) })).toBe(meaning(a) === meaning(b));
      }),
      { numRuns: 300 },
    );
  });
});

describe('the fingerprint of headers', () => {
  it('leaves out what is about the client, the way or the attempt', async () => {
    const noise = {
      authorization: 'Bearer b',
      cookie: 'session=b',
      traceparent: '00-b',
      'x-request-id': 'b',
      'user-agent': 'b',
      'x-stainless-retry-count': '2',
      'stripe-attempt': '2',
      date: 'b',
      accept: 'b',
      'idempotency-key': 'other',
      'content-encoding': 'gzip',
      'accept-encoding': 'br',
    };
    expect(await same({ headers: JSON_HEADERS, body: {} }, { headers: { ...JSON_HEADERS, ...noise }, body: {} })).toBe(
      true,
    );
  });

  it('takes the media type without its parameters and in any case', async () => {
    const typed = (type: string): FakeRequest => ({ headers: { 'content-type': type }, body: { a: 1 } });
    expect(await same(typed('application/json'), typed('Application/JSON; charset=utf-8'))).toBe(true);
    expect(await same(typed('application/json'), typed('application/merge-patch+json'))).toBe(false);
    expect(await same(typed('application/json'), { body: { a: 1 } })).toBe(false);
  });

  it('takes those that the route names, in any case of their names', async () => {
    const versioned = (value?: string): FakeRequest => ({
      headers: value === undefined ? {} : { 'api-version': value },
    });
    const options = { headers: ['API-Version'] };
    expect(await same(versioned('1'), versioned('2'), options)).toBe(false);
    expect(await same(versioned('1'), versioned(), options)).toBe(false);
    expect(await same(versioned(''), versioned(), options)).toBe(false);
    expect(await same(versioned('1'), versioned('1'), options)).toBe(true);
    expect(await same(versioned('1'), versioned('2'))).toBe(true);
  });

  it('cannot be led to take the value of one header for that of another', async () => {
    const options = { headers: ['a', 'b'] };
    expect(await same({ headers: { a: '1' } }, { headers: { b: '1' } }, options)).toBe(false);
    expect(await same({ headers: { a: '1","b","2' } }, { headers: { a: '1', b: '2' } }, options)).toBe(false);
  });

  it('takes the version of a handler that is not in the path, and a secret', async () => {
    const prints = [{}, { version: '"1"' }, { version: '"2"' }, { secret: 's' }, { secret: 't' }].map((options) =>
      fingerprint({}, options),
    );
    expect(new Set(await Promise.all(prints)).size).toBe(5);
  });
});

describe('the fingerprint of a body', () => {
  it.each([
    ['members in another order', '{"a":1,"b":2}', '{"b":2,"a":1}'],
    ['1.0 and 1', '{"a":1.0}', '{"a":1}'],
    ['1e2 and 100', '{"a":1e2}', '{"a":100}'],
    ['escapes', '{"a":"\\u0041"}', '{"a":"A"}'],
    ['white space', '{"a":1}', '{ "a" : 1 }'],
    ['a duplicate name and the last of it', '{"a":1,"a":2}', '{"a":2}'],
  ])('is the same for %s, with and without the raw body', async (_what, a, b) => {
    expect(await same(json(a), json(b))).toBe(true);
    expect(await same(withRaw(a), withRaw(b))).toBe(true);
  });

  it.each([
    ['null and absent', '{"a":null}', '{}'],
    ['array order', '[1,2]', '[2,1]'],
    ['NFC and NFD', '{"a":"\u00e9"}', '{"a":"e\u0301"}'],
    ['a __proto__ member', '{"__proto__":1}', '{}'],
    ['a number and its text', '{"a":1}', '{"a":"1"}'],
  ])('is another one for %s, with and without the raw body', async (_what, a, b) => {
    expect(await same(json(a), json(b))).toBe(false);
    expect(await same(withRaw(a), withRaw(b))).toBe(false);
  });

  it.each([
    ['9007199254740993', '9007199254740992'],
    ['1e400', '1e401'],
    ['123456789012.12345', '123456789012.12346'],
    ['0.1', '0.1000000000000000055511151231257827'],
  ])('keeps the numbers %s and %s apart where the raw body is at hand', async (a, b) => {
    expect(await same(withRaw(`{"n":${a}}`), withRaw(`{"n":${b}}`))).toBe(false);
  });

  it('reads a raw body behind a byte order mark as well', async () => {
    const marked = (n: string): FakeRequest => ({ ...json(`{"n":${n}}`), rawBody: Buffer.from(`\ufeff{"n":${n}}`) });
    expect(await same(marked('9007199254740993'), marked('9007199254740992'))).toBe(false);
    expect(await same(marked('1'), withRaw('{"n":1}'))).toBe(true);
  });

  it('falls back to the parsed body where the raw one is in another charset', async () => {
    const utf16 = (text: string): FakeRequest => ({ ...json(text), rawBody: Buffer.from(text, 'utf16le') });
    expect(await same(utf16('{"a":1,"b":2}'), utf16('{"b":2,"a":1}'))).toBe(true);
    expect(await same(utf16('{"a":1}'), utf16('{"a":2}'))).toBe(false);
  });

  it('is the same with the raw body as without where numbers are small', async () => {
    expect(await same(json('{"a":[1,"x",{"b":null}]}'), withRaw('{"a":[1,"x",{"b":null}]}'))).toBe(true);
  });

  it('leaves out the members that the route names', async () => {
    const a = '{"id":1,"meta":{"sentAt":1},"items":[{"t":1},{"t":2}]}';
    const b = '{"id":1,"meta":{"sentAt":2},"items":[{"t":3},{"t":4}]}';
    const omit = { omit: ['meta.sentAt', 'items.*.t'] };
    expect(await same(json(a), json(b))).toBe(false);
    expect(await same(json(a), json(b), omit)).toBe(true);
    expect(await same(withRaw(a), withRaw(b), omit)).toBe(true);
    expect(await same(json(a), json(a.replace('"id":1', '"id":2')), omit)).toBe(false);
  });

  it('tells none, {}, "" and null apart', async () => {
    const bodies: FakeRequest[] = [
      { headers: JSON_HEADERS },
      { headers: JSON_HEADERS, body: {} },
      { headers: JSON_HEADERS, body: '' },
      { headers: JSON_HEADERS, body: null, rawBody: Buffer.from('null') },
      { headers: JSON_HEADERS, body: [] },
    ];
    expect(new Set(await Promise.all(bodies.map((body) => fingerprint(body)))).size).toBe(bodies.length);
  });

  it('takes texts, bytes and forms as the parser gives them', async () => {
    const bodies: unknown[] = [
      'a',
      'b',
      Buffer.from('a'),
      Buffer.from('b'),
      { a: ['1', '2'] },
      { a: ['2', '1'] },
      { a: '1' },
    ];
    const prints = await Promise.all(
      bodies.map((body) => fingerprint({ headers: { 'content-type': 'text/x' }, body })),
    );
    expect(new Set(prints).size).toBe(bodies.length);
  });

  it('is refused where nobody has read the body: two requests would be one on a guess', async () => {
    const unread = { headers: { 'content-type': 'text/csv', 'content-length': '3' }, readableEnded: false };
    await expect(fingerprint(unread)).rejects.toThrow(UnreadableBodyError);
    await expect(fingerprint({ headers: { 'transfer-encoding': 'chunked' }, readableEnded: false })).rejects.toThrow(
      /parse it first/,
    );
    await expect(fingerprint({ headers: { 'content-length': '0' }, readableEnded: false })).resolves.toMatch(/^.{43}$/);
  });
});

describe('the fingerprint of an upload', () => {
  const type = (boundary: string): Record<string, string> => ({
    'content-type': `multipart/form-data; boundary=${boundary}`,
  });
  const file = (changes: object = {}): object => ({
    fieldname: 'file',
    originalname: 'a.txt',
    mimetype: 'text/plain',
    buffer: Buffer.from('content'),
    size: 7,
    ...changes,
  });
  const upload = (changes: FakeRequest = {}): FakeRequest => ({
    headers: type('first'),
    body: { title: 't' },
    file: file(),
    ...changes,
  });

  it('is the same under another boundary', async () => {
    expect(await same(upload(), upload({ headers: type('----second') }))).toBe(true);
  });

  it.each<[string, FakeRequest]>([
    ['another content', { file: file({ buffer: Buffer.from('Content') }) }],
    ['another file name', { file: file({ originalname: 'b.txt' }) }],
    ['another type of the file', { file: file({ mimetype: 'text/html' }) }],
    ['another field of the file', { file: file({ fieldname: 'other' }) }],
    ['another field', { body: { title: 'u' } }],
    ['another name of a field', { body: { tit: 't' } }],
    ['one field more', { body: { title: 't', more: '' } }],
    ['a field of two values', { body: { title: ['t', 't'] } }],
    ['a second file', { file: undefined, files: [file(), file()] }],
    ['no file', { file: undefined }],
    ['the file as a field', { file: undefined, body: { title: 't', file: 'content' } }],
  ])('is another one for %s', async (_what, changes) => {
    expect(await same(upload(), upload(changes))).toBe(false);
  });

  it('sees a field of any name, __proto__ too', async () => {
    const withField = (name: string, value: unknown): FakeRequest => {
      const body = Object.create(null) as Record<string, unknown>;
      body[name] = value;
      return upload({ body });
    };
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      expect(await same(withField(name, 'a'), withField(name, 'b'))).toBe(false);
      expect(await same(withField(name, ['a', 'b']), withField(name, ['a', 'c']))).toBe(false);
    }
  });

  it('is of the files wherever the interceptor puts them, in their order', async () => {
    const two = [file(), file({ originalname: 'b.txt' })];
    const list = upload({ file: undefined, files: two });
    const byField = upload({ file: undefined, files: { file: two } });
    expect(await same(list, byField)).toBe(true);
    expect(await same(list, upload({ file: undefined, files: [...two].reverse() }))).toBe(false);
    expect(await same(upload(), upload({ file: undefined, files: [file()] }))).toBe(true);
  });

  it('is not confused by fields that look like a file', async () => {
    const [attached] = [{ type: 'file', fieldname: 'file', value: 'content' }];
    expect(await same(upload({ body: { file: attached } }), upload())).toBe(false);
    expect(await same(upload({ body: { x: '["file","file","a.txt"]' }, file: undefined }), upload({ body: {} }))).toBe(
      false,
    );
  });

  it('reads a file from the disk, whatever it is called there', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'upload-'));
    try {
      const stored = async (name: string, content: string): Promise<FakeRequest> => {
        const path = join(folder, name);
        await writeFile(path, content);
        return upload({ file: file({ buffer: undefined, path, destination: folder, filename: name }) });
      };
      const first = await stored('1f0c', 'content');
      expect(await same(first, await stored('9b2e', 'content'))).toBe(true);
      expect(await same(first, await stored('77aa', 'Content'))).toBe(false);
      expect(await same(first, upload())).toBe(true);
      const big = 'x'.repeat(1_000_000);
      expect(await same(await stored('b1', `${big}1`), await stored('b2', `${big}2`))).toBe(false);
      await expect(
        fingerprint(upload({ file: file({ buffer: undefined, path: join(folder, 'gone') }) })),
      ).rejects.toThrow(/ENOENT/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('is refused where the content of a file is nowhere to be found', async () => {
    const elsewhere = upload({ file: file({ buffer: undefined, location: 's3://bucket/a' }) });
    await expect(fingerprint(elsewhere)).rejects.toThrow(/uploaded file 'file' is neither in memory nor on disk/);
  });

  it('is refused where nobody has read the parts', async () => {
    const unread = { headers: { ...type('x'), 'content-length': '99' }, readableEnded: false };
    await expect(fingerprint(unread)).rejects.toThrow(UnreadableBodyError);
  });

  it('takes the parts that a Fastify plugin attaches to the body', async () => {
    const attached = (content: string, value = 't', filename = 'a.txt'): FakeRequest => ({
      headers: type('first'),
      body: {
        title: { type: 'field', fieldname: 'title', value, encoding: '7bit' },
        file: {
          type: 'file',
          fieldname: 'file',
          filename,
          mimetype: 'text/plain',
          toBuffer: async () => Buffer.from(content),
        },
      },
      file: () => undefined, // the plugin's method of this name
      files: () => undefined,
    });
    expect(await same(attached('content'), { ...attached('content'), headers: type('second') })).toBe(true);
    expect(await same(attached('content'), attached('Content'))).toBe(false);
    expect(await same(attached('content'), attached('content', 'u'))).toBe(false);
    expect(await same(attached('content'), attached('content', 't', 'b.txt'))).toBe(false);
    expect(await same(attached('content'), upload())).toBe(true);
  });

  it('leaves out the fields that the route names', async () => {
    const omit = { omit: ['attempt'] };
    expect(await same(upload({ body: { attempt: '1' } }), upload({ body: { attempt: '2' } }), omit)).toBe(true);
    expect(await same(upload({ body: { attempt: '1' } }), upload({ body: { attempt: '2' } }))).toBe(false);
  });
});
