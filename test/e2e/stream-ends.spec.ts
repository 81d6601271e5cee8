import { Body, Controller, Header, HttpCode, type MessageEvent, Post, RequestMethod, Res, Sse } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { from, map, type Observable } from 'rxjs';
import {
  ClientLeftError,
  Idempotent,
  IdempotencyContext,
  IdempotencyService,
  IdempotencyStreamLimitError,
  memoryStore,
  type IdempotencyRunContext,
  type IdempotencyStore,
} from 'nestjs-idempotency';
import { ADAPTERS, startApp, type RunningApp } from './support/app.js';
import { eventually, send } from './support/http-client.js';
import { open, type LiveResponse } from './support/streaming-client.js';

interface Ask {
  /** How many events. */
  n: number;
  /** The size of each, in characters. */
  size?: number;
}

let calls: string[] = [];
let contexts = new Map<string, IdempotencyRunContext>();
let produced = 0;
let opened = new Map<string, () => void>();

/** A model that says nothing before its gate is opened. */
async function* tokens({ n, size = 1 }: Ask, context: IdempotencyRunContext): AsyncGenerator<string> {
  calls.push(context.key);
  contexts.set(context.key, context);
  if (context.key.includes('gated')) {
    await new Promise<void>((resolve) => opened.set(context.key, resolve));
  }
  for (let i = 1; i <= n; i++) {
    produced += 1;
    yield `${i}`.padStart(size, '.');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
const events = (ask: Ask, context: IdempotencyRunContext): Observable<MessageEvent> =>
  from(tokens(ask, context)).pipe(map((data) => ({ data })));

@Controller('e')
@Idempotent()
class EndsController {
  @Sse('events', { method: RequestMethod.POST })
  @HttpCode(200)
  events(@Body() ask: Ask, @IdempotencyContext() context: IdempotencyRunContext) {
    return events(ask, context);
  }

  @Sse('fragile', { method: RequestMethod.POST })
  @HttpCode(200)
  @Idempotent({ onDisconnect: 'cancel' })
  fragile(@Body() ask: Ask, @IdempotencyContext() context: IdempotencyRunContext) {
    return events(ask, context);
  }

  @Sse('timed', { method: RequestMethod.POST })
  @HttpCode(200)
  @Idempotent({ lease: 300, maxDuration: 700 })
  timed(@Body() ask: Ask, @IdempotencyContext() context: IdempotencyRunContext) {
    return events(ask, context);
  }

  @Post('timed-bytes')
  @Header('content-type', 'application/octet-stream')
  @Idempotent({ lease: 300, maxDuration: 700 })
  timedBytes(@Body() ask: Ask, @IdempotencyContext() context: IdempotencyRunContext) {
    return Readable.from(tokens(ask, context), { objectMode: false });
  }

  @Sse('small', { method: RequestMethod.POST })
  @HttpCode(200)
  @Idempotent({ maxRecordBytes: 2_000 })
  small(@Body() ask: Ask, @IdempotencyContext() context: IdempotencyRunContext) {
    return events(ask, context);
  }

  @Post('bytes')
  @HttpCode(200)
  @Header('content-type', 'application/octet-stream')
  bytes(@Body() ask: Ask, @IdempotencyContext() context: IdempotencyRunContext) {
    return Readable.from(tokens(ask, context), { objectMode: false });
  }

  @Post('small-bytes')
  @Header('content-type', 'application/octet-stream')
  @Idempotent({ maxRecordBytes: 2_000 })
  smallBytes(@Body() ask: Ask, @IdempotencyContext() context: IdempotencyRunContext) {
    return Readable.from(tokens(ask, context), { objectMode: false });
  }

  /** Writes by itself, and waits for room where it is told to. */
  @Post('small-raw')
  @Idempotent({ maxRecordBytes: 200_000 })
  async smallRaw(
    @Body() ask: Ask,
    @IdempotencyContext() context: IdempotencyRunContext,
    @Res() res: { raw?: ServerResponse },
  ) {
    const response = res.raw ?? (res as unknown as ServerResponse);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for await (const token of tokens(ask, context)) {
      // No frame ever ends.
      if (!response.write(`data: ${token}\n`)) await new Promise((resolve) => response.once('drain', resolve));
      if (context.signal.aborted) break;
    }
    response.end();
  }
}

const key = (name: string): Record<string, string> => ({ 'idempotency-key': name });
const last = ({ events }: LiveResponse): string | undefined => events[events.length - 1]?.event;

describe.each(ADAPTERS)('how streams end, on %s', (adapter) => {
  let store: IdempotencyStore;
  let one: RunningApp;
  let two: RunningApp;

  const start = (more = {}): Promise<RunningApp> =>
    startApp({ adapter, controllers: [EndsController], idempotency: { store, lease: '2s', ...more } });
  const ask = (app: RunningApp, path: string, name: string, body: Ask): Promise<LiveResponse> =>
    open(`${app.url}/e/${path}`, { body, headers: key(name) });
  const whole = async (app: RunningApp, path: string, name: string, body: Ask): Promise<LiveResponse> =>
    (await ask(app, path, name, body)).over();
  const running = (name: string, times = 1): Promise<void> =>
    eventually(() => calls.filter((called) => called === name).length === times, `call ${times} of ${name}`);

  beforeAll(async () => {
    store = memoryStore();
    [one, two] = await Promise.all([start(), start()]);
  });
  afterAll(async () => {
    await Promise.all([one.close(), two.close()]);
  });
  beforeEach(() => {
    calls = [];
    contexts = new Map();
    opened = new Map();
    produced = 0;
  });

  describe('before the first event', () => {
    const body = { n: 3 };

    it('cancelled: the client, one that waits and one that comes later are told; it does not run again', async () => {
      const first = ask(one, 'events', 'gated-cancel', body);
      await running('gated-cancel');
      const waiting = ask(two, 'events', 'gated-cancel', body);
      await two.app
        .get(IdempotencyService)
        .cancel({ operation: 'POST /e/events', scope: 'global', key: 'gated-cancel' });
      const told = await (await first).over();
      expect([told.status, last(told)]).toEqual([200, 'idempotency.cancelled']);
      for (const other of [await (await waiting).over(), await whole(two, 'events', 'gated-cancel', body)]) {
        expect(other.bytes.equals(told.bytes)).toBe(true);
        expect(other.headers['idempotency-stream']).toBe('cancelled');
      }
      expect(calls).toHaveLength(1);
    });

    it('its client leaves and takes the wish along (onDisconnect cancel): the retry runs', async () => {
      const leaving = ask(one, 'fragile', 'gated-left', body);
      leaving.catch(() => undefined);
      await running('gated-left');
      one.app.getHttpServer().closeAllConnections();
      await eventually(() => contexts.get('gated-left')!.signal.aborted, 'the signal');
      expect(contexts.get('gated-left')!.signal.reason).toBeInstanceOf(ClientLeftError);
      const retry = ask(two, 'fragile', 'gated-left', body);
      await running('gated-left', 2);
      opened.get('gated-left')!();
      const { events: all, ended } = await (await retry).over();
      expect([all.map(({ data }) => data), ended]).toEqual([['1', '2', '3'], true]);
    });

    it('the claim is lost: 409, its outcome is unknown', async () => {
      const first = send(`${one.url}/e/timed`, { body, headers: key('gated-lost') });
      await running('gated-lost');
      await two.app.get(IdempotencyService).forget({ operation: 'POST /e/timed', scope: 'global', key: 'gated-lost' });
      const answer = await first;
      expect([answer.status, answer.json()['code']]).toEqual([409, 'idempotency_outcome_unknown']);
      opened.get('gated-lost')!();
    });

    it('longer than maxDuration: 409, as any handler', async () => {
      const answer = await send(`${one.url}/e/timed`, { body, headers: key('gated-long') });
      expect([answer.status, answer.json()['code']]).toEqual([409, 'idempotency_outcome_unknown']);
      opened.get('gated-long')!();
    });

    it('the process shuts down: 409, and no other process runs it again', async () => {
      const third = await start({ shutdownTimeout: 100 });
      const first = send(`${third.url}/e/events`, { body, headers: key('gated-shutdown') });
      await running('gated-shutdown');
      const closed = third.close();
      const answer = await first;
      expect([answer.status, answer.json()['code']]).toEqual([409, 'idempotency_outcome_unknown']);
      await closed;
      const retry = await send(`${two.url}/e/events`, { body, headers: key('gated-shutdown') });
      expect([retry.status, retry.json()['code']]).toEqual([409, 'idempotency_outcome_unknown']);
      expect(calls).toHaveLength(1);
      opened.get('gated-shutdown')!();
    });
  });

  it('longer than maxDuration: idempotency.timeout for all, now and later, and the source is told', async () => {
    const body = { n: 100_000 };
    const first = await ask(one, 'timed', 'long', body);
    const follower = await ask(two, 'timed', 'long', body);
    await first.over();
    expect(last(first)).toBe('idempotency.timeout');
    expect(contexts.get('long')!.signal.reason).toBeInstanceOf(IdempotencyStreamLimitError);
    const late = await whole(two, 'timed', 'long', body);
    for (const other of [await follower.over(), late]) expect(other.bytes.equals(first.bytes)).toBe(true);
    expect(late.headers['idempotency-stream']).toBe('failed');
    const upTo = produced;
    await new Promise((resolve) => setTimeout(resolve, 50)); // for a source that was not torn down to go on
    expect(produced).toBe(upTo);
    expect(calls).toHaveLength(1);
  });

  it('longer than maxDuration, bytes: cut for all', async () => {
    const body = { n: 100_000, size: 100 };
    const first = await whole(one, 'timed-bytes', 'long-bytes', body);
    const late = await whole(two, 'timed-bytes', 'long-bytes', body);
    expect([first.ended, late.ended]).toEqual([false, false]);
    expect(first.bytes.length).toBeGreaterThan(0);
    expect(late.bytes.equals(first.bytes)).toBe(true);
    expect(calls).toHaveLength(1);
  });

  it('over maxRecordBytes: truncated for all, and the source is told', async () => {
    const body = { n: 100_000, size: 100 };
    const first = await whole(one, 'small', 'large', body);
    expect(last(first)).toBe('idempotency.truncated');
    expect(first.bytes.length).toBeGreaterThan(1_000);
    expect(contexts.get('large')!.signal.reason).toBeInstanceOf(IdempotencyStreamLimitError);
    expect((await whole(two, 'small', 'large', body)).bytes.equals(first.bytes)).toBe(true);
    const bytes = await whole(one, 'small-bytes', 'large-bytes', body);
    expect([bytes.ended, bytes.bytes.length]).toEqual([false, 2_000]);
    expect((await whole(two, 'small-bytes', 'large-bytes', body)).bytes.equals(bytes.bytes)).toBe(true);
  });

  it('the first event alone is over maxRecordBytes: truncated, without an event', async () => {
    const body = { n: 2, size: 5_000 };
    const first = await whole(one, 'small', 'first-large', body);
    expect(first.events.map(({ event }) => event)).toEqual(['idempotency.truncated']);
    expect((await whole(two, 'small', 'first-large', body)).bytes.equals(first.bytes)).toBe(true);
    expect(calls).toHaveLength(1);
  });

  it('the first piece of a body is over maxRecordBytes: it is sent whole, and not kept', async () => {
    for (const size of [5_000, 100_000]) {
      const body = { n: 3, size };
      const first = await whole(one, 'small-bytes', `piece-${size}`, body);
      expect([first.ended, first.bytes.length]).toEqual([true, 3 * size]);
      const late = await send(`${two.url}/e/small-bytes`, { body, headers: key(`piece-${size}`) });
      expect([late.status, late.json()['code']]).toEqual([410, 'idempotency_response_not_kept']);
    }
  });

  it('an event that never ends does not gather in memory', async () => {
    const body = { n: 100_000, size: 20_000 };
    const first = await whole(one, 'small-raw', 'endless', body);
    expect(first.events.map(({ event }) => event)).toEqual(['idempotency.truncated']);
    expect(produced).toBeLessThan(50);
    expect((await whole(two, 'small-raw', 'endless', body)).bytes.equals(first.bytes)).toBe(true);
  });

  describe('many whose clients have left (maxDetachedStreams)', () => {
    let few: RunningApp;
    beforeAll(async () => (few = await start({ maxDetachedStreams: 2, shutdownTimeout: 100 })));
    afterAll(() => few.close());

    it.each(['events', 'bytes'])(
      '%s: no other one begins; those that run are followed, and one that is followed again makes room',
      async (path) => {
        const body = { n: 100_000 };
        const names = [1, 2].map((index) => `left-${path}-${index}`);
        for (const name of names) {
          const leaving = await ask(few, path, name, body);
          await eventually(() => leaving.bytes.length > 0, 'something of it');
          leaving.leave();
        }
        const refused = async (name: string): Promise<boolean> => {
          const answer = await ask(few, path, name, body);
          if (answer.status !== 503) answer.leave();
          return answer.status === 503;
        };
        let attempt = 0;
        await eventually(() => refused(`other-${path}-${(attempt += 1)}`), 'a refusal');
        const answer = await send(`${few.url}/e/${path}`, { body, headers: key(`refused-${path}`) });
        expect([answer.status, answer.json()['code']]).toEqual([503, 'idempotency_too_many_streams']);
        expect([answer.headers['retry-after'], answer.headers['x-should-retry']]).toEqual(['5', 'true']);
        expect(answer.headers['content-type']).toBe('application/problem+json');
        expect(calls).not.toContain(`refused-${path}`);
        // Another process has room; and here, so has who comes back.
        const elsewhere = await ask(two, path, `elsewhere-${path}`, body);
        expect(elsewhere.status).toBe(200);
        elsewhere.leave();
        const back = await ask(few, path, names[0]!, body);
        expect([back.status, back.headers['idempotent-replayed']]).toEqual([200, 'true']);
        await eventually(() => back.bytes.length > 0, 'something of it again');
        const admitted = async (): Promise<boolean> => !(await refused(`admitted-${path}`));
        await eventually(admitted, 'room for another one');
        back.leave();
        const service = few.app.get(IdempotencyService);
        for (const name of calls) await service.cancel({ operation: `POST /e/${path}`, scope: 'global', key: name });
        await eventually(admitted, 'an end of those that ran');
        expect(calls.filter((name) => name === names[0])).toHaveLength(1);
      },
    );
  });
});
