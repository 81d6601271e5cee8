import {
  Body,
  CallHandler,
  CanActivate,
  Catch,
  ClassSerializerInterceptor,
  Controller,
  ExecutionContext,
  HttpException,
  Injectable,
  type INestApplication,
  NestInterceptor,
  Param,
  type PipeTransform,
  Post,
  Get,
  Put,
  RequestTimeoutException,
  Res,
  UnprocessableEntityException,
  UseGuards,
  UseInterceptors,
  UsePipes,
  ValidationPipe,
  type ArgumentsHost,
  type ExceptionFilter,
} from '@nestjs/common';
import { APP_FILTER, APP_INTERCEPTOR, Reflector } from '@nestjs/core';
import { Exclude } from 'class-transformer';
import { IsInt } from 'class-validator';
import { catchError, map, of, tap, throwError, timeout, type Observable } from 'rxjs';
import {
  Idempotent,
  IdempotencyContext,
  IdempotencyService,
  type IdempotencyRunContext,
  IndeterminateError,
  NotExecutedError,
} from 'nestjs-idempotency';
import { ADAPTERS, startApp, type AppOptions, type RunningApp } from './support/app.js';
import { eventually, send, sendAndLeave } from './support/http-client.js';

let runs = 0;
let seenByOuter: unknown[] = [];
let seenByFilter: unknown[] = [];
let contexts: (IdempotencyRunContext | undefined)[] = [];
let lateGate: (() => void) | undefined;

class Account {
  id = Math.random();
  @Exclude() secret = 'hidden';
}
class Amount {
  @IsInt() cents!: number;
}

@Injectable()
class EnvelopeInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      tap((value) => seenByOuter.push(value)),
      map((data: unknown) => ({ data, wrapped: true })),
    );
  }
}

@Injectable()
class RoleGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const role = context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers['x-role'];
    if (role === 'limited') throw new HttpException('slow down', 429);
    return role !== 'nobody';
  }
}

class PatienceInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      timeout(60),
      catchError(() => throwError(() => new RequestTimeoutException())),
    );
  }
}

let orderIsOpen = true;
class OpenOrderPipe implements PipeTransform {
  transform(value: string): string {
    if (!orderIsOpen) throw new UnprocessableEntityException('the order is closed');
    return value;
  }
}

class ShortcutInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const asked = context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers['x-shortcut'];
    if (asked === 'answer') return of({ shortcut: Math.random() });
    if (asked === 'refuse') return throwError(() => new HttpException('not today', 400));
    return next.handle();
  }
}

@Controller('p')
@Idempotent()
class PipelineController {
  constructor(private readonly idempotency: IdempotencyService) {}

  @Post('account') @UseInterceptors(ClassSerializerInterceptor) account() {
    runs += 1;
    return new Account();
  }
  @Post('amount') @UsePipes(new ValidationPipe()) amount(@Body() amount: Amount) {
    runs += 1;
    return { cents: amount.cents, at: Math.random() };
  }
  @Post('guarded') @UseGuards(RoleGuard) guarded() {
    runs += 1;
    return { at: Math.random() };
  }
  @Post('orders/:id/pay') pay(@Param('id', OpenOrderPipe) id: string) {
    runs += 1;
    orderIsOpen = false;
    return { id, at: Math.random() };
  }
  @Post('shortcut') @UseInterceptors(ShortcutInterceptor) shortcut() {
    runs += 1;
    return { at: Math.random() };
  }
  @Post('context') context(@IdempotencyContext() context: IdempotencyRunContext) {
    runs += 1;
    contexts.push(context, this.idempotency.current());
    return {
      key: context.key,
      operation: context.operation,
      attempt: context.attempt,
      fence: context.fencingToken,
      down: context.downstreamKey('charge'),
    };
  }
  @Post('fails-first') failsFirst(@IdempotencyContext() context: IdempotencyRunContext) {
    runs += 1;
    if (context.attempt === 1) throw new Error('first attempt fails');
    return { attempt: context.attempt, down: context.downstreamKey('charge'), fence: context.fencingToken };
  }
  @Post('slow') async slow(@IdempotencyContext() context: IdempotencyRunContext) {
    runs += 1;
    contexts.push(context);
    await new Promise<void>((resolve) => (lateGate = resolve));
    return { at: Math.random() };
  }
  @Post('slow-outer') @UseInterceptors(PatienceInterceptor) async slowOuter() {
    runs += 1;
    await new Promise<void>((resolve) => (lateGate = resolve));
    return { at: Math.random() };
  }
  @Post('unknown') unknown() {
    runs += 1;
    throw new IndeterminateError('the provider timed out');
  }
  @Post('not-executed') notExecuted() {
    runs += 1;
    throw new NotExecutedError('the provider refused the connection', { statusCode: 422 });
  }
  @Post('large') @Idempotent({ maxRecordBytes: 1000 }) large(@Body() body: { size: number }) {
    runs += 1;
    return 'x'.repeat(body.size);
  }
  @Post('large-raw') @Idempotent({ maxRecordBytes: 1000 }) largeRaw(
    @Res() res: { raw?: NodeJS.WritableStream } & NodeJS.WritableStream,
  ) {
    runs += 1;
    const raw = res.raw ?? res;
    for (let i = 0; i < 100; i++) raw.write('y'.repeat(1000));
    raw.end('z');
  }
  @Post('everything') @Idempotent({ recordWhen: ({ status }) => (status === 503 ? 'record' : 'release') }) everything(
    @Body() body: { status: number },
  ) {
    runs += 1;
    if (body.status === 503) throw new HttpException({ at: Math.random() }, 503);
    return { at: Math.random() };
  }
  @Get('get') get() {
    runs += 1;
    return { at: Math.random() };
  }
  @Put('put') put() {
    runs += 1;
    return { at: Math.random() };
  }
  @Post('off') @Idempotent(false) off() {
    runs += 1;
    return { context: this.idempotency.current() ?? 'none' };
  }
  @Post('optional') @Idempotent({ required: false }) optional(@IdempotencyContext() context?: IdempotencyRunContext) {
    runs += 1;
    return { key: context?.key ?? 'none' };
  }
}

@Catch()
class CatchEverythingFilter implements ExceptionFilter {
  catch(error: unknown, host: ArgumentsHost): void {
    seenByFilter.push(error);
    const res = host.switchToHttp().getResponse<{ status(code: number): { send(body: unknown): void } }>();
    const status = error instanceof HttpException ? error.getStatus() : 500;
    res.status(status).send({ envelope: true, nonce: Math.random() });
  }
}

const key = (name: string, more: Record<string, string> = {}) => ({ 'idempotency-key': name, ...more });

describe.each(ADAPTERS)('the rest of the pipeline on %s', (adapter) => {
  let running: RunningApp;
  const start = (options: Partial<AppOptions> = {}): Promise<RunningApp> =>
    startApp({ adapter, controllers: [PipelineController], ...options });
  const post = (path: string, sent: Parameters<typeof send>[1] = {}) =>
    send(`${running.url}/p/${path}`, { body: {}, ...sent });

  beforeAll(async () => {
    running = await start({ idempotency: { replayCache: false } });
  });
  afterAll(() => running.close());
  beforeEach(() => {
    runs = 0;
    seenByOuter = [];
    seenByFilter = [];
    contexts = [];
    lateGate = undefined;
    orderIsOpen = true;
  });

  it('a serializer inside or outside: what it removed is in neither answer', async () => {
    const first = await post('account', { headers: key('account') });
    const second = await post('account', { headers: key('account') });
    expect(first.json()).not.toHaveProperty('secret');
    expect(second.text).toBe(first.text);
    expect(runs).toBe(1);
  });

  it.each([true, false])(
    'an outer interceptor shapes the answer once, also when it is registered first (%s)',
    async (importsFirst) => {
      const before = await start({
        importsFirst,
        imports: [
          { module: class OuterModule {}, providers: [{ provide: APP_INTERCEPTOR, useClass: EnvelopeInterceptor }] },
        ],
        setup: (app: INestApplication) =>
          void app.useGlobalInterceptors(new EnvelopeInterceptor(), new ClassSerializerInterceptor(app.get(Reflector))),
      });
      try {
        const first = await send(`${before.url}/p/account`, { body: {}, headers: key('outer') });
        const second = await send(`${before.url}/p/account`, { body: {}, headers: key('outer') });
        expect(first.json()).toMatchObject({
          wrapped: true,
          data: { wrapped: true, data: { id: expect.any(Number) } },
        });
        expect(first.text).not.toContain('hidden');
        expect(second.text).toBe(first.text);
        expect(second.headers['idempotent-replayed']).toBe('true');
        expect(runs).toBe(1);
      } finally {
        await before.close();
      }
    },
  );

  it('a filter that catches everything shapes the handler’s errors, and not ours', async () => {
    const filtered = await start({ providers: [{ provide: APP_FILTER, useClass: CatchEverythingFilter }] });
    try {
      const url = `${filtered.url}/p`;
      const missing = await send(`${url}/amount`, { body: { cents: 1 } });
      expect(missing.status).toBe(400);
      expect(missing.headers['content-type']).toBe('application/problem+json');
      expect(missing.json()).toMatchObject({
        code: 'idempotency_key_missing',
        status: 400,
        error: { type: 'idempotency_error' },
      });
      expect(seenByFilter).toHaveLength(1);
      const refused = await send(`${url}/shortcut`, { body: {}, headers: key('f', { 'x-shortcut': 'refuse' }) });
      expect(refused.json()).toMatchObject({ envelope: true });
    } finally {
      await filtered.close();
    }
  });

  it('a validation pipe’s 400 is not stored: the corrected request may use the same key', async () => {
    const bad = await post('amount', { headers: key('pipe'), body: { cents: 'x' } });
    const good = await post('amount', { headers: key('pipe'), body: { cents: 5 } });
    const again = await post('amount', { headers: key('pipe'), body: { cents: 5 } });
    expect([bad.status, good.status, again.status]).toEqual([400, 201, 201]);
    expect(again.text).toBe(good.text);
    expect(runs).toBe(1);
  });

  it('a stateful pipe does not come between a retry and its answer', async () => {
    const first = await post('orders/7/pay', { headers: key('pay') });
    const retry = await post('orders/7/pay', { headers: key('pay') });
    expect(first.status).toBe(201);
    expect(retry.text).toBe(first.text);
    const other = await post('orders/7/pay', { headers: key('pay-2') });
    expect(other.status).toBe(422);
  });

  it('guards run before: nothing is stored for 403 and 429, and who lost the right gets no replay', async () => {
    expect((await post('guarded', { headers: key('g', { 'x-role': 'nobody' }) })).status).toBe(403);
    expect((await post('guarded', { headers: key('g', { 'x-role': 'limited' }) })).status).toBe(429);
    expect(runs).toBe(0);
    expect((await post('guarded', { headers: key('g', { 'x-role': 'user' }) })).status).toBe(201);
    const lost = await post('guarded', { headers: key('g', { 'x-role': 'nobody' }) });
    expect(lost.status).toBe(403);
    expect(lost.headers['idempotent-replayed']).toBeUndefined();
    expect(runs).toBe(1);
  });

  it('what fails before the handler began is not stored, whatever its status', async () => {
    expect((await post('shortcut', { headers: key('s1', { 'x-shortcut': 'refuse' }) })).status).toBe(400);
    expect((await post('shortcut', { headers: key('s1') })).status).toBe(201);
    expect(runs).toBe(1);
    const answered = await post('shortcut', { headers: key('s2', { 'x-shortcut': 'answer' }) });
    const again = await post('shortcut', { headers: key('s2') });
    expect(again.text).toBe(answered.text);
  });

  it('gives the handler its context, and the same one deep in the call chain', async () => {
    const answer = (await post('context', { headers: key('ctx') })).json<{ down: string; fence: number }>();
    expect(answer).toMatchObject({ key: 'ctx', operation: 'POST /p/context', attempt: 1 });
    expect(contexts[0]).toBe(contexts[1]);
    expect(Number.isSafeInteger(answer.fence)).toBe(true);
    expect(answer.down).toMatch(/^[A-Za-z0-9_-]{20,48}$/);
  });

  it('counts attempts; the downstream key stays, the fencing token grows', async () => {
    expect((await post('fails-first', { headers: key('ff') })).status).toBe(500);
    const second = (await post('fails-first', { headers: key('ff') })).json();
    expect(second).toMatchObject({ attempt: 2 });
    expect((await post('fails-first', { headers: key('ff') })).json()).toEqual(second);
    expect(runs).toBe(2);
  });

  it('a client that leaves does not stop the handler; its answer is replayed', async () => {
    await sendAndLeave(`${running.url}/p/slow`, { headers: key('leave') }, () => runs === 1 && lateGate !== undefined);
    expect(contexts[0]!.signal.aborted).toBe(false);
    lateGate!();
    await eventually(async () => (await post('slow', { headers: key('leave') })).status === 201, 'the recorded answer');
    const replay = await post('slow', { headers: key('leave') });
    expect(replay.headers['idempotent-replayed']).toBe('true');
    expect(runs).toBe(1);
  });

  it('a duplicate of a running request gets 409, with the headers that SDKs heed', async () => {
    const first = post('slow', { headers: key('dup') });
    await eventually(() => runs === 1 && lateGate !== undefined, 'the handler');
    const duplicate = await post('slow', { headers: key('dup') });
    expect(duplicate.status).toBe(409);
    expect(duplicate.json()).toMatchObject({ code: 'idempotency_in_progress', status: 409 });
    expect(Number(duplicate.headers['retry-after'])).toBeGreaterThanOrEqual(1);
    expect(Number(duplicate.headers['retry-after'])).toBeLessThanOrEqual(59);
    expect(duplicate.headers['x-should-retry']).toBe('true');
    expect(duplicate.headers['cache-control']).toBe('no-store');
    expect(duplicate.headers['link']).toMatch(/^<https:.*>; rel="describedby"$/);
    const other = await post('slow', { headers: key('dup'), body: { another: 'payload' } });
    expect(other.status).toBe(422);
    lateGate!();
    expect((await first).status).toBe(201);
    expect((await post('slow', { headers: key('dup') })).text).toBe((await first).text);
  });

  it('an outer timeout does not free the key of a handler that runs on', async () => {
    const timedOut = await post('slow-outer', { headers: key('timeout') });
    expect(timedOut.status).toBe(408);
    expect((await post('slow-outer', { headers: key('timeout') })).status).toBe(409);
    lateGate!();
    await eventually(
      async () => (await post('slow-outer', { headers: key('timeout') })).status === 410,
      'the end of the handler',
    );
    const after = await post('slow-outer', { headers: key('timeout') });
    expect(after.json()).toMatchObject({ code: 'idempotency_response_not_kept' });
    expect(runs).toBe(1);
  });

  it('IndeterminateError is recorded as outcome unknown', async () => {
    const first = await post('unknown', { headers: key('unknown') });
    const second = await post('unknown', { headers: key('unknown') });
    for (const answer of [first, second]) {
      expect(answer.status).toBe(409);
      expect(answer.json()).toMatchObject({ code: 'idempotency_outcome_unknown' });
      expect(answer.headers['x-should-retry']).toBe('false');
    }
    expect(runs).toBe(1);
  });

  it('NotExecutedError releases, whatever its status', async () => {
    expect((await post('not-executed', { headers: key('ne') })).status).toBe(422);
    await post('not-executed', { headers: key('ne') });
    expect(runs).toBe(2);
  });

  it.each([
    ['large', 1000, 201],
    ['large', 1001, 410],
    ['large', 200_000, 410],
  ])('%s: %d bytes: the first client gets all of it, a retry %d', async (path, size, status) => {
    const first = await post(path, { headers: key(`large-${size}`), body: { size } });
    expect([first.status, first.text.length]).toEqual([201, size]);
    const retry = await post(path, { headers: key(`large-${size}`), body: { size } });
    expect(retry.status).toBe(status);
    expect(runs).toBe(1);
  });

  it('a large answer that is written in pieces arrives whole and is not run again', async () => {
    const first = await post('large-raw', { headers: key('large-raw') });
    expect(first.text.length).toBe(100_001);
    const retry = await post('large-raw', { headers: key('large-raw') });
    expect(retry.json()).toMatchObject({ code: 'idempotency_response_not_kept', status: 410 });
    expect(runs).toBe(1);
  });

  it('recordWhen decides', async () => {
    const first = await post('everything', { headers: key('e503'), body: { status: 503 } });
    expect((await post('everything', { headers: key('e503'), body: { status: 503 } })).text).toBe(first.text);
    expect(runs).toBe(1);
    await post('everything', { headers: key('e200'), body: { status: 200 } });
    await post('everything', { headers: key('e200'), body: { status: 200 } });
    expect(runs).toBe(3);
  });

  it('GET ignores the key; PUT on a decorated handler does not; @Idempotent(false) switches off', async () => {
    const get = () => send(`${running.url}/p/get`, { method: 'GET', headers: key('same') });
    expect((await get()).text).not.toBe((await get()).text);
    const put = () => send(`${running.url}/p/put`, { method: 'PUT', body: {}, headers: key('same') });
    expect((await put()).text).toBe((await put()).text);
    expect((await post('off')).json()).toEqual({ context: 'none' });
    expect((await post('optional')).json()).toEqual({ key: 'none' });
    expect((await post('optional', { headers: key('opt') })).json()).toEqual({ key: 'opt' });
    const invalid = await post('optional', { headers: key('') });
    expect(invalid.json()).toMatchObject({ code: 'idempotency_key_invalid', status: 400 });
  });
});
