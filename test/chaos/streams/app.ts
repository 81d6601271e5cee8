import '../app/shifted-date.js';
import 'reflect-metadata';
import {
  Body,
  Controller,
  Header,
  HttpCode,
  type MessageEvent,
  Module,
  Post,
  RequestMethod,
  Sse,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Agent, request } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { from, map } from 'rxjs';
import {
  Idempotent,
  IdempotencyContext,
  IdempotencyModule,
  type EventLog,
  type IdempotencyRunContext,
  type IdempotencyStore,
  type StoreContainer,
} from 'nestjs-idempotency';
import { CrashPoints } from '../app/crash-points.js';
import { Journal } from '../app/journal.js';
import { machineNow, readSettings } from '../app/settings.js';
import { storeOf } from '../app/stores.js';
import type { CallEvent, SourceEndEvent } from './history.js';
import type { StreamAsk } from './readers.js';

const settings = readSettings();
const { server, leaseMs, mode, platform, purgeMs } = settings;
const journal = new Journal(settings.journal);
const points = new CrashPoints(settings, journal);
const store = await storeOf(settings);
const agent = new Agent({ keepAlive: true });

/** Resolves when the ledger has it on its disk. */
function tellLedger(event: CallEvent | SourceEndEvent): Promise<void> {
  return new Promise((resolve, reject) => {
    const post = request({ host: '127.0.0.1', port: settings.ledgerPort, method: 'POST', agent }, (response) => {
      response.resume().once('end', resolve);
    });
    post.once('error', reject);
    post.end(JSON.stringify(event));
  });
}

/** A model: the call is paid before its first token, and its end is known outside before it is known here. */
async function callModel({ n, pause, fails }: StreamAsk, run: IdempotencyRunContext): Promise<AsyncGenerator<string>> {
  const salt = Math.random().toString(36).slice(2, 12);
  const { key, attempt, fencingToken: fence, signal } = run;
  points.at('before-effect');
  await tellLedger({ type: 'call', key, salt, attempt, fence, server, at: machineNow() });
  points.at('after-effect');
  return (async function* () {
    for (let i = 1; i <= n; i++) {
      yield `${salt}-${i}`;
      points.at('mid-stream');
      await sleep(pause);
      signal.throwIfAborted();
    }
    await tellLedger({ type: 'source_end', salt, end: fails ? 'failed' : 'complete', tokens: n });
    if (fails) throw new Error('the model fell over');
  })();
}

@Controller()
@Idempotent({ joinTimeout: 3 * leaseMs })
class StreamsController {
  @Sse('events', { method: RequestMethod.POST })
  @HttpCode(200)
  async events(@Body() ask: StreamAsk, @IdempotencyContext() run: IdempotencyRunContext) {
    return from(await callModel(ask, run)).pipe(map((data): MessageEvent => ({ data })));
  }

  @Post('bytes')
  @HttpCode(200)
  @Header('content-type', 'text/plain')
  async bytes(@Body() ask: StreamAsk, @IdempotencyContext() run: IdempotencyRunContext) {
    const source = await callModel(ask, run);
    return Readable.from(
      (async function* () {
        for await (const token of source) yield `${token}\n`;
      })(),
      { objectMode: false },
    );
  }
}

/** The store with crash points around what a stream needs of it, and with replies that get lost. */
function withCrashPoints(inner: IdempotencyStore): IdempotencyStore {
  const events: EventLog = {
    async append(claim, batch, lease) {
      points.at('before-append');
      await points.maybeCutReply('append');
      const result = await inner.events!.append(claim, batch, lease);
      points.at('after-append');
      return result;
    },
    read: (stream, after, maxBytes) => inner.events!.read(stream, after, maxBytes),
  };
  const own: Partial<IdempotencyStore> = {
    events,
    async claim(claim) {
      points.at('before-claim');
      const result = await inner.claim(claim);
      if (result.kind === 'claimed') points.at('after-claim');
      return result;
    },
    async complete(claim, answer, retentionMs) {
      points.at('before-complete');
      await points.maybeCutReply('complete');
      const result = await inner.complete(claim, answer, retentionMs);
      points.at('after-complete');
      return result;
    },
  };
  return new Proxy(inner, {
    get(target, name) {
      if (name in own) return own[name as keyof IdempotencyStore];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

@Module({
  imports: [
    ...store.imports,
    IdempotencyModule.forRoot({
      store: {
        createStore: async (container: StoreContainer): Promise<IdempotencyStore> =>
          withCrashPoints(await store.create(container)),
      },
      scope: 'global',
      lease: leaseMs,
      retention: '1h',
      afterCrash: mode,
      purge: { every: purgeMs },
      lazy: true,
    }),
  ],
  controllers: [StreamsController],
})
class StreamsModule {}

function trouble(what: string, error: unknown): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  journal.write({ type: 'trouble', kind: 'process', server, what: `${what}: ${text}` });
}
process.on('unhandledRejection', (error) => trouble('unhandled rejection', error));
process.on('uncaughtException', (error) => {
  trouble('uncaught exception', error);
  process.exit(1);
});

const options = { logger: ['fatal'] as 'fatal'[], abortOnError: false };
const app =
  platform === 'express'
    ? await NestFactory.create(StreamsModule, options)
    : await NestFactory.create(StreamsModule, new FastifyAdapter(), options);
await app.listen(0, '127.0.0.1');
journal.write({ type: 'mark', what: 'boot', server, at: machineNow() });
// An application does not outlive the run that started it.
process.once('disconnect', () => process.exit(1));
process.send!({ port: (app.getHttpServer().address() as { port: number }).port });
