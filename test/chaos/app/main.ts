import './shifted-date.js';
import 'reflect-metadata';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Body, Controller, Header, Headers, Inject, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import {
  Idempotent,
  IdempotencyContext,
  IdempotencyModule,
  type IdempotencyRunContext,
  type IdempotencyStore,
  type StoreContainer,
} from 'nestjs-idempotency';
import { subjectOf } from '../checker/history.js';
import { OPERATIONS, type ChargeBody } from '../workload.js';
import { Charges } from './charges.js';
import { CrashPoints } from './crash-points.js';
import { Journal } from './journal.js';
import { currentRequest, observedStore } from './observed-store.js';
import { machineNow, readSettings } from './settings.js';
import { noteStalls } from './stalls.js';
import { storeOf } from './stores.js';

const settings = readSettings();
const { server, leaseMs, mode, platform, purgeMs, transaction } = settings;
const journal = new Journal(settings.journal);
const points = new CrashPoints(settings, journal);
const store = await storeOf(settings);
noteStalls(journal, server, leaseMs);

@Controller()
class ChargesController {
  constructor(@Inject(Charges) private readonly charges: Charges) {}

  @Post('charges')
  @Header('content-type', 'application/json; charset=utf-8')
  @Header('set-cookie', 'session=planted-cookie')
  @Header('location', '/charges/latest')
  @Idempotent()
  charge(
    @Body() body: ChargeBody,
    @Headers('x-tenant') tenant: string,
    @IdempotencyContext() run: IdempotencyRunContext,
  ): Promise<unknown> {
    return this.charges.charge(OPERATIONS.charges, tenant, body, run);
  }

  @Post('joined')
  @Header('content-type', 'application/json; charset=utf-8')
  @Idempotent({ inFlight: 'join', joinTimeout: 3 * leaseMs })
  joined(
    @Body() body: ChargeBody,
    @Headers('x-tenant') tenant: string,
    @IdempotencyContext() run: IdempotencyRunContext,
  ): Promise<unknown> {
    return this.charges.charge(OPERATIONS.joined, tenant, body, run);
  }

  @Post('brief')
  @Header('content-type', 'application/json; charset=utf-8')
  @Idempotent({ retention: settings.briefMs })
  brief(
    @Body() body: ChargeBody,
    @Headers('x-tenant') tenant: string,
    @IdempotencyContext() run: IdempotencyRunContext,
  ): Promise<unknown> {
    return this.charges.charge(OPERATIONS.brief, tenant, body, run);
  }
}

@Module({
  imports: [
    ...store.imports,
    IdempotencyModule.forRoot({
      store: {
        createStore: async (container: StoreContainer): Promise<IdempotencyStore> =>
          observedStore(await store.create(container), server, journal, points),
      },
      scope: (context) => identify(context.switchToHttp().getRequest()),
      lease: leaseMs,
      retention: '1h',
      afterCrash: mode,
      transaction,
      maxRecordBytes: 4_096,
      purge: { every: purgeMs },
      lazy: true,
    }),
  ],
  controllers: [ChargesController],
  providers: [{ provide: Charges, useFactory: () => new Charges(settings, points, journal) }],
})
class ChargesModule {}

function trouble(what: string, error: unknown): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  journal.write({ type: 'trouble', kind: 'process', server, what: `${what}: ${text}` });
  console.error(`${what}: ${text}`);
}
process.on('unhandledRejection', (error) => trouble('unhandled rejection', error));
process.on('uncaughtException', (error) => {
  trouble('uncaught exception', error);
  process.exit(1);
});

/**
 * Names the request for the journal, and tells whose it is. Here and not in a middleware: what parses
 * bodies calls back from the socket, which belongs to no request. Nothing waits between this and the claim.
 */
function identify({ headers, url }: { headers: IncomingMessage['headers']; url?: string }): string {
  const { 'x-op': op, 'x-tenant': tenant, 'idempotency-key': key } = headers as Record<string, string>;
  currentRequest.enterWith({ op: op!, subject: subjectOf(`POST ${url}`, tenant!, key!.slice(1, -1)) });
  return tenant!;
}

/** A crash point before the last bytes of the answer. */
function crashBeforeResponding(_request: IncomingMessage, response: ServerResponse, next: () => void): void {
  const end = response.end.bind(response) as (...args: unknown[]) => ServerResponse;
  response.end = (...args: unknown[]) => {
    points.at('before-respond');
    return end(...args);
  };
  next();
}

const app =
  platform === 'express'
    ? await NestFactory.create(ChargesModule, { logger: ['error', 'warn'], abortOnError: false })
    : await NestFactory.create(ChargesModule, new FastifyAdapter(), { logger: ['error', 'warn'], abortOnError: false });
app.use(crashBeforeResponding);
await app.listen(0, '127.0.0.1');
journal.write({ type: 'mark', what: 'boot', server, at: machineNow() });
// An application does not outlive the run that started it.
process.once('disconnect', () => process.exit(1));
process.send!({ port: (app.getHttpServer().address() as { port: number }).port });
