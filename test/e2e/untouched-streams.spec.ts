import {
  Controller,
  Get,
  Header,
  HttpCode,
  type INestApplication,
  type MessageEvent,
  Module,
  Post,
  Res,
  Sse,
  StreamableFile,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { concatMap, finalize, from, Observable, of, tap } from 'rxjs';
import { IdempotencyModule, Idempotent, memoryStore } from 'nestjs-idempotency';
import { ADAPTERS } from './support/app.js';
import { eventually } from './support/http-client.js';

const MB = 1024 * 1024;
const state = { produced: 0, finished: 0, gate: undefined as (() => void) | undefined };

async function* words(): AsyncGenerator<string> {
  try {
    for (const word of ['one', 'two\nlines', '', '👩‍👩‍👧']) {
      state.produced += 1;
      yield word;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  } finally {
    state.finished += 1;
  }
}

/** The second piece comes when the gate is opened. */
async function* gated(): AsyncGenerator<string> {
  try {
    yield 'first';
    await new Promise<void>((resolve) => (state.gate = resolve));
    yield 'second';
  } finally {
    state.finished += 1;
  }
}

/** 100 MB, as fast as they are taken. */
async function* flood(): AsyncGenerator<Buffer> {
  try {
    for (let i = 0; i < 1_600; i++) {
      state.produced += 1;
      yield Buffer.alloc(64 * 1024, i % 251);
    }
  } finally {
    state.finished += 1;
  }
}

const messages = (source: AsyncIterable<string>): Observable<MessageEvent> =>
  from(source).pipe(concatMap((data) => of({ data })));

@Controller('plain')
class PlainController {
  @Sse('events') events() {
    return messages(words());
  }
  @Sse('shapes') shapes(): Observable<MessageEvent> {
    return from([
      { data: { a: 1 }, id: 'own', type: 'thing', retry: 10 },
      { data: 'x' },
      { comment: 'c' } as never,
    ] as MessageEvent[]);
  }
  @Sse('gated-events') gatedEvents() {
    return messages(gated()).pipe(
      tap(() => (state.produced += 1)),
      finalize(() => (state.finished += 1)),
    );
  }
  @Post('generator') generator() {
    return words();
  }
  @Post('gated') gated() {
    return gated();
  }
  @Post('readable') @Header('content-type', 'text/x-own') readable() {
    return Readable.from(words(), { objectMode: false });
  }
  @Post('file') @HttpCode(202) file() {
    return new StreamableFile(Readable.from(words(), { objectMode: false }), { type: 'application/pdf' });
  }
  @Post('web') web() {
    return new Response(Readable.toWeb(Readable.from(words(), { objectMode: false })) as never, { status: 203 });
  }
  @Post('observable') observable() {
    return from(words());
  }
  @Post('raw') async raw(@Res() res: { raw?: ServerResponse }) {
    const response = res.raw ?? (res as unknown as ServerResponse);
    response.writeHead(200, { 'content-type': 'text/plain' });
    for await (const word of words()) response.write(word);
    response.end();
  }
  @Get('flood') flood() {
    return new StreamableFile(Readable.from(flood(), { objectMode: false }));
  }
}

/** So that there is something that the library does protect. */
@Controller('other')
class OtherController {
  @Post() @Idempotent() post() {
    return 'other';
  }
}

/** What came over the socket so far, and whether that is all: Nest keeps the connection of an event stream open. */
interface Conversation {
  readonly text: string;
  readonly ended: boolean;
  readonly socket: Socket;
}

function say(port: number, method: string, path: string): Conversation {
  const socket = connect(port, '127.0.0.1');
  let closed = false;
  const conversation = {
    text: '',
    socket,
    get ended() {
      if (closed) return true;
      return method === 'HEAD' ? this.text.endsWith('\r\n\r\n') : this.text.endsWith('\r\n0\r\n\r\n');
    },
  };
  socket.setEncoding('latin1').on('data', (text: string) => (conversation.text += text));
  socket.on('end', () => (closed = true)).on('error', () => undefined);
  const key = 'idempotency-key: k\r\nlast-event-id: nonsense\r\n';
  socket.write(`${method} /plain/${path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n${key}content-length: 0\r\n\r\n`);
  return conversation;
}

/** All of it but what is different each time: the date, and how bytes were put into chunks. */
async function whole(port: number, method: string, path: string): Promise<{ head: string; body: string }> {
  const conversation = say(port, method, path);
  await eventually(() => conversation.ended, `the end of ${path}`);
  conversation.socket.destroy();
  const at = conversation.text.indexOf('\r\n\r\n');
  const head = conversation.text.slice(0, at).replace(/^date: .*$/im, 'date');
  return { head, body: withoutChunks(conversation.text.slice(at + 4), head) };
}

function withoutChunks(body: string, head: string): string {
  if (!/^transfer-encoding: chunked$/im.test(head)) return body;
  let rest = body;
  let all = '';
  for (;;) {
    const [size = ''] = /^[0-9a-f]+(?=\r\n)/i.exec(rest) ?? [];
    const length = parseInt(size, 16);
    if (!(length > 0)) return all + (length === 0 ? '<end>' : `<broken>${rest}`);
    all += rest.slice(size.length + 2, size.length + 2 + length);
    rest = rest.slice(size.length + 2 + length + 2);
  }
}

describe.each(ADAPTERS)('handlers that are not idempotent, on %s', (adapter) => {
  const apps: INestApplication[] = [];
  let without: number;
  let beside: number;

  async function start(imports: never[]): Promise<number> {
    @Module({ imports, controllers: [PlainController, ...(imports.length > 0 ? [OtherController] : [])] })
    class AppModule {}
    const platform = adapter === 'express' ? new ExpressAdapter() : new FastifyAdapter();
    const app = await NestFactory.create(AppModule, platform as never, { logger: ['fatal'] });
    apps.push(app);
    await app.listen(0, '127.0.0.1');
    return ((app.getHttpServer() as import('node:http').Server).address() as AddressInfo).port;
  }

  beforeAll(async () => {
    without = await start([]);
    beside = await start([IdempotencyModule.forRoot({ store: memoryStore(), scope: 'global' }) as never]);
  });
  afterAll(() => Promise.all(apps.map((app) => app.close())));
  beforeEach(() => Object.assign(state, { produced: 0, finished: 0, gate: undefined }));

  it.each([
    ['GET', 'events'],
    ['GET', 'shapes'],
    ['HEAD', 'events'],
    ['POST', 'generator'],
    ['POST', 'readable'],
    ['POST', 'file'],
    ['POST', 'web'],
    ['POST', 'observable'],
    ['POST', 'raw'],
  ])(
    '%s %s: the same head and bytes as without the library',
    async (method, path) => {
      const plain = await whole(without, method, path);
      expect(plain.head).toMatch(/^HTTP\/1\.1 20/);
      if (method !== 'HEAD')
        expect(plain.body).toContain(path === 'shapes' ? 'thing' : Buffer.from('👩').toString('latin1'));
      expect(await whole(beside, method, path)).toEqual(plain);
    },
    20_000,
  );

  it.each([
    ['GET', 'gated-events'],
    ['POST', 'gated'],
  ])(
    '%s %s: each piece comes when it is made; a client that leaves ends the source',
    async (method, path) => {
      for (const port of [without, beside]) {
        state.finished = 0;
        state.gate = undefined;
        const staying = say(port, method, path);
        await eventually(() => staying.text.includes('first') && state.gate !== undefined, 'the first piece');
        expect(staying.text).not.toContain('second');
        state.gate!();
        await eventually(() => staying.ended, 'the end');
        expect(staying.text).toContain('second');
        staying.socket.destroy();
        state.finished = 0;
        state.gate = undefined;
        const leaving = say(port, method, path);
        await eventually(() => leaving.text.includes('first') && state.gate !== undefined, 'the first piece again');
        leaving.socket.destroy();
        // An Observable is let go at once; a generator where it next comes to.
        if (path === 'gated-events') await eventually(() => state.finished > 0, 'the end of the source');
        state.gate!();
        await eventually(() => state.finished > 0, 'the end of the generator');
      }
    },
    40_000,
  );

  it('a fast source waits for a slow client, as long as without the library', async () => {
    const produced: number[] = [];
    for (const port of [without, beside]) {
      state.produced = state.finished = 0;
      const { socket } = say(port, 'GET', 'flood');
      socket.pause();
      let before = -1;
      // It has come to rest when nothing is produced for a while.
      await eventually(async () => {
        before = state.produced;
        await new Promise((resolve) => setTimeout(resolve, 300));
        return before > 0 && state.produced === before;
      }, 'a source at rest');
      produced.push(state.produced * 64 * 1024);
      socket.destroy();
      await eventually(() => state.finished === 1, 'the end of the source');
    }
    // What the sockets of the machine take is up to it, but it is no 100 MB.
    for (const bytes of produced) expect(bytes).toBeLessThan(40 * MB);
    expect(Math.abs(produced[0]! - produced[1]!)).toBeLessThan(8 * MB);
  }, 40_000);
});
