import {
  Body,
  Controller,
  Get,
  Header,
  HttpCode,
  HttpException,
  type MessageEvent,
  Post,
  Query,
  RequestMethod,
  Res,
  Sse,
  SseSignal,
  StreamableFile,
} from '@nestjs/common';
import { PassThrough, Readable } from 'node:stream';
import { concatMap, delay, from, Observable, of, throwError, concat } from 'rxjs';
import {
  Idempotent,
  IdempotencyContext,
  IdempotencyService,
  memoryStore,
  type IdempotencyRunContext,
  type IdempotencyStore,
} from 'nestjs-idempotency';
import { ADAPTERS, startApp, type RunningApp } from './support/app.js';
import { eventually, send } from './support/http-client.js';
import { open } from './support/streaming-client.js';

let calls = 0;
let produced = 0;
let signals: AbortSignal[] = [];
let abortedSse = 0;

/** A model that answers token by token; a little different each time, so that a second call would be seen. */
async function* tokens(n: number, pauseMs = 3, signal?: AbortSignal): AsyncGenerator<string> {
  calls += 1;
  const salt = Math.random().toString(36).slice(2, 8);
  for (let i = 1; i <= n; i++) {
    if (signal?.aborted) return;
    produced += 1;
    yield `${salt}-${i}`;
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
const events = (n: number, pauseMs = 3, signal?: AbortSignal): Observable<MessageEvent> =>
  from(tokens(n, pauseMs, signal)).pipe(concatMap((data) => of({ data })));

interface Ask {
  n: number;
  pause?: number;
}

@Controller('s')
@Idempotent()
class StreamsController {
  @Sse('observable', { method: RequestMethod.POST }) @HttpCode(200) observable(@Body() ask: Ask) {
    return events(ask.n, ask.pause);
  }
  @Sse('promise', { method: RequestMethod.POST }) async promise(@Body() ask: Ask) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    return events(ask.n, ask.pause);
  }
  @Sse('generator', { method: RequestMethod.POST }) generator(@Body() ask: Ask) {
    return tokens(ask.n, ask.pause) as never;
  }
  @Sse('browser')
  @Idempotent({ key: (ctx) => ctx.switchToHttp().getRequest<{ query: { key?: string } }>().query.key })
  browser(@Query('n') n: string) {
    return events(Number(n), 5);
  }
  @Sse('signal', { method: RequestMethod.POST }) signal(
    @Body() ask: Ask,
    @IdempotencyContext() context: IdempotencyRunContext,
    @SseSignal() sse: AbortSignal,
  ) {
    signals.push(context.signal);
    sse.addEventListener('abort', () => (abortedSse += 1));
    return events(ask.n, ask.pause, context.signal);
  }
  @Sse('cancelling', { method: RequestMethod.POST }) @Idempotent({ onDisconnect: 'cancel' }) cancelling(
    @Body() ask: Ask,
    @IdempotencyContext() context: IdempotencyRunContext,
  ) {
    signals.push(context.signal);
    return events(ask.n, ask.pause);
  }
  @Sse('fails-late', { method: RequestMethod.POST }) failsLate(@Body() ask: Ask) {
    return concat(
      events(ask.n),
      throwError(() => new Error('the model fell over')),
    );
  }
  @Sse('fails-first', { method: RequestMethod.POST }) failsFirst() {
    calls += 1;
    return of(1).pipe(
      delay(30),
      concatMap(() => throwError(() => new HttpException('too many tokens', calls === 1 ? 503 : 422))),
    );
  }
  @Sse('shapes', { method: RequestMethod.POST }) shapes(): Observable<MessageEvent> {
    calls += 1;
    return from([
      { data: 'one\ntwo\nthree' },
      { data: { json: true, emoji: '👩‍👩‍👧 é' }, type: 'thing' },
      { data: '', id: 'own-id' },
      { data: 'x'.repeat(20_000), retry: 1234 },
    ] as MessageEvent[]);
  }
  @Sse('short', { method: RequestMethod.POST }) @Idempotent({ stream: { maxItems: 5 } }) short(@Body() ask: Ask) {
    return events(ask.n);
  }
  @Post('chunks') chunks(@Body() ask: Ask) {
    return tokens(ask.n, ask.pause);
  }
  @Post('readable') @Header('content-type', 'application/x-thing') readable(@Body() ask: Ask) {
    return Readable.from(tokens(ask.n, ask.pause), { objectMode: false });
  }
  @Post('file') file(@Body() ask: Ask) {
    return new StreamableFile(Readable.from(tokens(ask.n, ask.pause), { objectMode: false }), {
      type: 'application/pdf',
    });
  }
  @Post('web') web(@Body() ask: Ask) {
    return new Response(Readable.toWeb(Readable.from(tokens(ask.n, ask.pause), { objectMode: false })) as never, {
      status: 202,
      headers: { 'content-type': 'text/x-web' },
    });
  }
  @Post('raw') async raw(@Body() ask: Ask, @Res() res: { raw?: unknown }) {
    const raw = (res.raw ?? res) as import('node:http').ServerResponse;
    raw.writeHead(200, { 'content-type': 'text/event-stream' });
    for await (const token of tokens(ask.n, ask.pause)) {
      const frame = Buffer.from(`data: ${token} 😀\n\n`);
      raw.write(frame.subarray(0, frame.length - 4));
      raw.write(frame.subarray(frame.length - 4));
    }
    raw.end();
  }
  @Post('big') @Idempotent({ maxRecordBytes: 20 * 1024 * 1024 }) big() {
    calls += 1;
    const seed = Math.floor(Math.random() * 200);
    const source = new PassThrough();
    void (async () => {
      for (let i = 0; i < 192; i++)
        if (!source.write(Buffer.alloc(64 * 1024, (seed + i) % 256)))
          await new Promise((resolve) => source.once('drain', resolve));
      source.end();
    })();
    return new StreamableFile(source);
  }
  @Post('breaks') breaks(@Body() ask: Ask) {
    async function* broken(): AsyncGenerator<string> {
      yield* tokens(ask.n);
      throw new Error('broken in the middle');
    }
    return broken();
  }
}

@Controller('plain')
class PlainController {
  @Sse('sse') sse() {
    return events(5);
  }
  @Post('chunks') chunks() {
    return tokens(5);
  }
  @Get() get() {
    return 'plain';
  }
}

const key = (name: string, more: Record<string, string> = {}) => ({ 'idempotency-key': name, ...more });

/** A store that answers late: what is decided at once elsewhere has to be held back. */
function slow(store: IdempotencyStore, ms: number): IdempotencyStore {
  const claim = store.claim.bind(store);
  store.claim = async (request) => {
    await new Promise((resolve) => setTimeout(resolve, ms));
    return claim(request);
  };
  return store;
}

describe.each(ADAPTERS)('streams on %s', (adapter) => {
  let one: RunningApp;
  let two: RunningApp;
  let store: IdempotencyStore;

  beforeAll(async () => {
    store = slow(memoryStore(), 15);
    const idempotency = { store, lease: '2s' as const };
    one = await startApp({ adapter, controllers: [StreamsController, PlainController], idempotency });
    two = await startApp({ adapter, controllers: [StreamsController, PlainController], idempotency });
  });
  afterAll(async () => {
    await one.close();
    await two.close();
  });
  beforeEach(() => {
    calls = 0;
    produced = 0;
    signals = [];
    abortedSse = 0;
  });

  it.each(['observable', 'promise', 'generator', 'raw'])(
    '%s: events come live, and a retry after the end gets the same bytes',
    async (path) => {
      const first = await open(`${one.url}/s/${path}`, { body: { n: 20, pause: 10 }, headers: key(`live-${path}`) });
      await eventually(() => first.events.length >= 2, 'the first events');
      expect(produced).toBeLessThan(20);
      await first.over();
      expect(first.headers['idempotency-stream']).toBe('live');
      expect(first.events).toHaveLength(20);
      expect(new Set(first.events.map(({ id }) => id)).size).toBe(20);
      for (const app of [one, two]) {
        const retry = await (
          await open(`${app.url}/s/${path}`, { body: { n: 20, pause: 10 }, headers: key(`live-${path}`) })
        ).over();
        expect(retry.status).toBe(first.status);
        expect(retry.headers['content-type']).toBe(first.headers['content-type']);
        expect(retry.headers['idempotent-replayed']).toBe('true');
        expect(retry.headers['idempotency-stream']).toBe('complete');
        expect(retry.events).toEqual(first.events);
      }
      expect(calls).toBe(1);
    },
  );

  it.each([true, false])(
    'a client that lost the connection gets all of it on the other process (with Last-Event-ID: %s)',
    async (resume) => {
      const name = `drop-${resume}`;
      const first = await open(`${one.url}/s/observable`, { body: { n: 60 }, headers: key(name) });
      await eventually(() => first.events.length >= 13, 'some tokens');
      const seen = first.events;
      first.leave();
      const more: Record<string, string> = resume ? { 'last-event-id': seen[seen.length - 1]!.id! } : {};
      const retry = await (await open(`${two.url}/s/observable`, { body: { n: 60 }, headers: key(name, more) })).over();
      const all = resume ? [...seen, ...retry.events] : retry.events;
      expect(all.map(({ data }) => data.split('-')[1])).toEqual(Array.from({ length: 60 }, (_, i) => String(i + 1)));
      expect(new Set(all.map(({ data }) => data.split('-')[0])).size).toBe(1);
      expect(calls).toBe(1);
    },
  );

  it('ten at once over two processes: one call, ten equal streams', async () => {
    const all = await Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        const response = await open(`${(i % 2 ? one : two).url}/s/observable`, {
          body: { n: 30 },
          headers: key('ten'),
        });
        return (await response.over()).events;
      }),
    );
    expect(calls).toBe(1);
    for (const one of all) expect(one).toEqual(all[0]);
    expect(all[0]).toHaveLength(30);
  });

  it('a browser’s EventSource resumes on GET with its key in the query', async () => {
    const url = `${one.url}/s/browser?n=40&key=tab-1`;
    const first = await open(url, { method: 'GET' });
    await eventually(() => first.events.length >= 5, 'some events');
    const seen = first.events;
    first.leave();
    const again = await (
      await open(url, { method: 'GET', headers: { 'last-event-id': seen[seen.length - 1]!.id! } })
    ).over();
    expect([...seen, ...again.events].map(({ data }) => Number(data.split('-')[1]))).toEqual(
      Array.from({ length: 40 }, (_, i) => i + 1),
    );
    expect(calls).toBe(1);
  });

  it('400, 409, 410 and 422 are real statuses on event streams too', async () => {
    const url = `${one.url}/s/observable`;
    expect((await send(url, { body: { n: 1 } })).json()).toMatchObject({
      status: 400,
      code: 'idempotency_key_missing',
    });
    const done = await (await open(url, { body: { n: 3 }, headers: key('status') })).over();
    expect((await send(url, { body: { n: 4 }, headers: key('status') })).json()).toMatchObject({ status: 422 });
    const cursor = done.events[2]!.id!;
    const other = await (await open(url, { body: { n: 3 }, headers: key('status-2') })).over();
    for (const id of ['nonsense', other.events[0]!.id!, cursor.replace(/\d+$/, '99'), cursor.replace(/\.1\./, '.2.')]) {
      const refused = await send(url, { body: { n: 3 }, headers: key('status', { 'last-event-id': id }) });
      expect([id, refused.status]).toEqual([id, 400]);
    }
    const gone = await send(url, { body: { n: 3 }, headers: key('never-seen', { 'last-event-id': cursor }) });
    expect(gone.json()).toMatchObject({ status: 410 });
    const end = await (await open(url, { body: { n: 3 }, headers: key('status', { 'last-event-id': cursor }) })).over();
    expect([end.status, end.events]).toEqual([200, []]);
    expect(calls).toBe(2);
  });

  it('a source that fails before its first event has its status; the retry runs where that is due', async () => {
    const url = `${one.url}/s/fails-first`;
    expect((await send(url, { body: {}, headers: key('ff') })).status).toBe(503);
    const second = await send(url, { body: {}, headers: key('ff') });
    expect(second.status).toBe(422);
    expect((await send(url, { body: {}, headers: key('ff') })).text).toBe(second.text);
    expect(calls).toBe(2);
  });

  it('a source that fails in the middle: the same end for the first client and for a retry', async () => {
    const first = await (await open(`${one.url}/s/fails-late`, { body: { n: 5 }, headers: key('fl') })).over();
    const retry = await (await open(`${two.url}/s/fails-late`, { body: { n: 5 }, headers: key('fl') })).over();
    expect(first.events.filter(({ event }) => event === undefined)).toHaveLength(5);
    expect(first.events[first.events.length - 1]).toMatchObject({ event: 'idempotency.failed' });
    expect(retry.events).toEqual(first.events);
    expect(retry.headers['idempotency-stream']).toBe('failed');
    expect(calls).toBe(1);
  });

  it('cancel() ends the stream for everyone, from another process', async () => {
    const body = { n: 500, pause: 10 };
    const first = await open(`${one.url}/s/signal`, { body, headers: key('cancel') });
    await eventually(() => first.events.length >= 3, 'some events');
    expect(
      await two.app.get(IdempotencyService).cancel({ operation: 'POST /s/signal', scope: 'global', key: 'cancel' }),
    ).toBe(true);
    await first.over();
    expect(first.events[first.events.length - 1]).toMatchObject({ event: 'idempotency.cancelled' });
    expect(signals[0]!.aborted).toBe(true);
    await eventually(() => abortedSse === 1, 'the SSE signal');
    const retry = await (await open(`${two.url}/s/signal`, { body, headers: key('cancel') })).over();
    expect(retry.events).toEqual(first.events);
    expect(retry.headers['idempotency-stream']).toBe('cancelled');
  });

  it('a client that leaves aborts no signal; onDisconnect cancel does', async () => {
    const stays = await open(`${one.url}/s/signal`, { body: { n: 20, pause: 8 }, headers: key('stays') });
    await eventually(() => stays.events.length >= 2, 'some events');
    stays.leave();
    const then = produced;
    await eventually(() => produced > then + 3, 'more of the source');
    expect([signals[0]!.aborted, abortedSse]).toEqual([false, 0]);
    await eventually(() => produced === 20, 'the end of the source');
    const goes = await open(`${one.url}/s/cancelling`, { body: { n: 500, pause: 5 }, headers: key('goes') });
    await eventually(() => goes.events.length >= 2, 'some events');
    goes.leave();
    await eventually(() => signals[1]!.aborted, 'the signal');
    const retry = await (
      await open(`${one.url}/s/cancelling`, { body: { n: 500, pause: 5 }, headers: key('goes') })
    ).over();
    expect(retry.events[retry.events.length - 1]).toMatchObject({ event: 'idempotency.cancelled' });
  });

  it('a stream that outgrows its limits ends truncated', async () => {
    const first = await (await open(`${one.url}/s/short`, { body: { n: 50 }, headers: key('short') })).over();
    expect(first.events).toHaveLength(6);
    expect(first.events[5]).toMatchObject({ event: 'idempotency.truncated' });
    const retry = await (await open(`${two.url}/s/short`, { body: { n: 50 }, headers: key('short') })).over();
    expect(retry.events).toEqual(first.events);
  });

  it('data of many lines, JSON, emoji, own ids: the same events', async () => {
    const first = await (await open(`${one.url}/s/shapes`, { body: {}, headers: key('shapes') })).over();
    const retry = await (await open(`${two.url}/s/shapes`, { body: {}, headers: key('shapes') })).over();
    expect(first.events.map(({ data }) => data)).toEqual([
      'one\ntwo\nthree',
      '{"json":true,"emoji":"👩‍👩‍👧 é"}',
      '',
      'x'.repeat(20_000),
    ]);
    expect(retry.bytes.equals(first.bytes)).toBe(true);
  });

  it.each(['chunks', 'readable', 'file', 'web'])(
    '%s: a chunked body comes live, goes on without its client, and is replayed byte for byte',
    async (path) => {
      const body = { n: 30, pause: 8 };
      const first = await open(`${one.url}/s/${path}`, { body, headers: key(`bytes-${path}`) });
      await eventually(() => first.bytes.length > 0, 'the first bytes');
      expect(produced).toBeLessThan(30);
      const follower = await open(`${two.url}/s/${path}`, { body, headers: key(`bytes-${path}`) });
      first.leave();
      await follower.over();
      expect(follower.ended).toBe(true);
      expect(follower.text.match(/-30/)).not.toBeNull();
      const retry = await (await open(`${one.url}/s/${path}`, { body, headers: key(`bytes-${path}`) })).over();
      expect(retry.bytes.equals(follower.bytes)).toBe(true);
      expect([retry.status, retry.headers['content-type']]).toEqual([first.status, first.headers['content-type']]);
      expect(calls).toBe(1);
    },
  );

  it('12 MB reach a slow reader whole, live and replayed', async () => {
    const slowly = async (app: RunningApp) => {
      const response = await open(`${app.url}/s/big`, { body: {}, headers: key('big') });
      response.pause();
      await new Promise((resolve) => setTimeout(resolve, 200));
      response.resume();
      return (await response.over(60_000)).bytes;
    };
    const first = await slowly(one);
    expect(first.length).toBe(12 * 1024 * 1024);
    expect((await slowly(two)).equals(first)).toBe(true);
    expect(calls).toBe(1);
  });

  it('a chunked body that breaks has no clean end, now or later', async () => {
    const first = await (await open(`${one.url}/s/breaks`, { body: { n: 10 }, headers: key('breaks') })).over();
    const retry = await (await open(`${two.url}/s/breaks`, { body: { n: 10 }, headers: key('breaks') })).over();
    expect([first.ended, retry.ended]).toEqual([false, false]);
    expect(retry.headers['idempotency-stream']).toBe('failed');
    expect(retry.bytes.equals(first.bytes)).toBe(true);
    expect(calls).toBe(1);
  });

  it('a handler that is not idempotent streams as ever', async () => {
    const sse = await (await open(`${one.url}/plain/sse`, { method: 'GET', headers: key('plain') })).over();
    expect(sse.events.map(({ id }) => id)).toEqual(['1', '2', '3', '4', '5']);
    const chunks = await (await open(`${one.url}/plain/chunks`, { body: {}, headers: key('plain') })).over();
    expect([chunks.ended, chunks.headers['idempotency-stream']]).toEqual([true, undefined]);
  });
});
