import { createServer } from 'node:http';
import {
  Controller,
  Module,
  Post,
  type CallHandler,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { retry, timeout, type Observable } from 'rxjs';
import { Idempotent } from '../../../lib/nest/decorators.js';
import { IdempotencyModule } from '../../../lib/nest/idempotency.module.js';
import type { MemoryStore } from '../../../lib/stores/memory/memory-store.js';
import type { FaultControls } from '../../../lib/testing/index.js';
import { storeWithFaults } from '../core/runs.js';
import { deferred, eventually } from '../support.js';

let gate = deferred();
let failures = 0;
let runs = 0;

function charge(): { run: number } {
  runs += 1;
  if (runs <= failures) throw new Error(`run ${runs} has failed`);
  return { run: runs };
}

@Controller()
@Idempotent()
class ChargesController {
  @Post('charges') create(): { run: number } {
    return charge();
  }

  @Post('slow') async slow(): Promise<{ run: number }> {
    const result = charge();
    await gate.promise;
    return result;
  }
}

let patienceMs = 0;

class RetryInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return patienceMs > 0 ? next.handle().pipe(timeout(patienceMs), retry(20)) : next.handle().pipe(retry(2));
  }
}

/** Its interceptor is outside of the library's, as its module comes first. */
@Module({ providers: [{ provide: APP_INTERCEPTOR, useClass: RetryInterceptor }] })
class RetryModule {}

let app: INestApplication;
let store: MemoryStore & FaultControls;
let url: string;

beforeEach(async () => {
  runs = failures = patienceMs = 0;
  store = storeWithFaults();
  const module = await Test.createTestingModule({
    imports: [
      RetryModule,
      IdempotencyModule.forRoot({ store, scope: 'global', replayCache: false, shutdownTimeout: '1s' }),
    ],
    controllers: [ChargesController],
  }).compile();
  app = module.createNestApplication({ logger: false });
  await app.listen(0, '127.0.0.1');
  const { port } = (app.getHttpServer() as ReturnType<typeof createServer>).address() as { port: number };
  url = `http://127.0.0.1:${port}`;
});
afterEach(() => app.close());

async function post(path: string): Promise<{ status: number; replayed: boolean; body: Record<string, unknown> }> {
  const answer = await fetch(url + path, {
    method: 'POST',
    headers: { 'idempotency-key': 'k' },
    signal: AbortSignal.timeout(10_000),
  });
  return {
    status: answer.status,
    replayed: answer.headers.get('idempotent-replayed') === 'true',
    body: (await answer.json()) as Record<string, unknown>,
  };
}

describe('under an interceptor that subscribes once more after an error', () => {
  it('the handler runs again under its claim, and its answer is recorded once', async () => {
    failures = 2;
    expect(await post('/charges')).toEqual({ status: 201, replayed: false, body: { run: 3 } });
    expect(await post('/charges')).toEqual({ status: 201, replayed: true, body: { run: 3 } });
    expect(runs).toBe(3);
    expect([store.count('claim'), store.count('complete')]).toEqual([2, 1]);
  });

  it('the last error is the answer where each run fails, and the claim is given back', async () => {
    failures = 3;
    expect(await post('/charges')).toMatchObject({ status: 500 });
    expect(runs).toBe(3);
    expect(await post('/charges')).toMatchObject({ status: 201, replayed: false, body: { run: 4 } });
  });

  it('a refused request stays refused: it is answered once, and nothing runs', async () => {
    store.on('claim').fail();
    expect(await post('/charges')).toMatchObject({ status: 503, body: { code: 'idempotency_store_unavailable' } });
    expect(runs).toBe(0);
    expect(store.count('claim')).toBe(1);
    store.heal();
    expect(await post('/charges')).toMatchObject({ status: 201, body: { run: 1 } });
  });

  it('a handler that still runs is not started again: its answer goes to the last subscriber', async () => {
    patienceMs = 100;
    gate = deferred();
    const startedAt = performance.now();
    const answer = post('/slow');
    await eventually(() => performance.now() - startedAt > 500, 'some timeouts');
    gate.resolve();
    expect(await answer).toEqual({ status: 201, replayed: false, body: { run: 1 } });
    expect(await post('/slow')).toEqual({ status: 201, replayed: true, body: { run: 1 } });
    expect(runs).toBe(1);
  });

  it('a claim that is still asked for is not asked for again', async () => {
    patienceMs = 100;
    store.at('before-claim').crash(() => gate.promise, 1);
    gate = deferred();
    const startedAt = performance.now();
    const answer = post('/charges');
    await eventually(() => performance.now() - startedAt > 500, 'some timeouts');
    gate.resolve();
    expect(await answer).toEqual({ status: 201, replayed: false, body: { run: 1 } });
    expect([runs, store.count('claim')]).toEqual([1, 1]);
  });
});
