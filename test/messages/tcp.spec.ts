import {
  Controller,
  Get,
  Injectable,
  Post,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
  UseInterceptors,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import {
  Ctx,
  EventPattern,
  MessagePattern,
  Payload,
  RpcException,
  TcpContext,
  Transport,
  type ClientProxy,
} from '@nestjs/microservices';
import {
  Idempotent,
  IdempotencyContext,
  IdempotencyService,
  IndeterminateError,
  memoryStore,
  NotExecutedError,
  type IdempotencyRunContext,
} from 'nestjs-idempotency';
import { faultStore } from 'nestjs-idempotency/testing';
import { EMPTY, from, map, throwError, timeout, timer, type Observable } from 'rxjs';
import { freePort } from '../../sample-app/src/embedded-postgres.js';
import { eventually } from '../e2e/support/http-client.js';
import { ask, connectClient, refusalOf, startHybrid, startMicroservice } from './support/application.js';

interface Order {
  id?: unknown;
  how?: string;
  item?: string;
}

function idOf(context: ExecutionContext): string {
  const { id, how } = context.switchToRpc().getData<Order>();
  if (how === 'has no readable key') throw new Error('no key here');
  return id as string;
}

let runs: string[] = [];
let gate: (() => void) | undefined;
const opened = (): Promise<void> => new Promise((resolve) => (gate = resolve));

@Injectable()
class Impatient implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(timeout(50));
  }
}

@Controller()
class OrdersController {
  constructor(private readonly idempotency: IdempotencyService) {}

  @MessagePattern('orders.create')
  @Idempotent({ key: idOf })
  async create(@Payload() order: Order, @IdempotencyContext() context: IdempotencyRunContext) {
    runs.push(`${String(order.id)} ${context.attempt}`);
    switch (order.how) {
      case 'waits':
        await opened();
        break;
      case 'throws':
        throw new Error('boom');
      case 'declines':
        throw new RpcException({ code: 'declined', message: 'no funds' });
      case 'cannot tell':
        throw new IndeterminateError();
      case 'has done nothing':
        throw new NotExecutedError();
      case 'gives nothing':
        return undefined;
      case 'gives null':
        return null;
      case 'gives its own JSON':
        return { toJSON: () => 'first' };
      default:
    }
    const seen = this.idempotency.current();
    return { order: order.id, run: runs.length, sameContext: seen === context, operation: context.operation };
  }

  @MessagePattern('orders.list')
  @Idempotent({ key: idOf, maxRecordBytes: 1000 })
  list(@Payload() order: Order): Observable<unknown> {
    runs.push(String(order.id));
    if (order.how === 'nothing') return EMPTY;
    if (order.how === 'much') return from(Array.from({ length: 100 }, (_, i) => `part ${i} ${'x'.repeat(20)}`));
    if (order.how === 'breaks') return throwError(() => new Error('half way'));
    return from([1, undefined, null, { run: runs.length }]);
  }

  @MessagePattern({ cmd: 'sum', version: 2 })
  @Idempotent({ key: idOf })
  sum(@Payload() order: Order, @IdempotencyContext() context: IdempotencyRunContext) {
    runs.push(String(order.id));
    return context.operation;
  }

  @MessagePattern(['stock.add', 'stock.take'])
  @Idempotent({ key: idOf })
  stock(@Ctx() context: TcpContext) {
    runs.push(context.getPattern());
    return context.getPattern();
  }

  @MessagePattern('orders.join')
  @Idempotent({ key: idOf, inFlight: 'join' })
  async join(@Payload() order: Order) {
    runs.push(String(order.id));
    await opened();
    return { run: runs.length };
  }

  @MessagePattern('orders.kept-refusal')
  @Idempotent({ key: idOf, recordWhen: () => 'record' })
  keptRefusal(@Payload() order: Order) {
    runs.push(String(order.id));
    if (order.how === 'declines') throw new RpcException({ code: 'declined', message: 'no funds' });
    throw new Error('secret');
  }

  @MessagePattern('orders.optional')
  @Idempotent({ key: idOf, required: false })
  optional() {
    runs.push('optional');
    return { run: runs.length };
  }

  @MessagePattern('orders.keyless')
  @Idempotent({ key: 'fingerprint', retention: '1m', fingerprint: { omit: ['sentAt'] } })
  keyless() {
    runs.push('keyless');
    return { run: runs.length };
  }

  // With a type: Nest 12 takes a second parameter of any other type for a mistake otherwise.
  @EventPattern<unknown>('order.shipped')
  @Idempotent({ key: idOf })
  first(@Payload() order: Order, @IdempotencyContext() context: IdempotencyRunContext): void {
    runs.push(`first ${String(order.id)} ${context.operation}`);
  }

  @MessagePattern('orders.unprotected') unprotected() {
    runs.push('unprotected');
    return { run: runs.length };
  }
}

/** Another part of the application that wants to know the same. */
@Controller()
@Idempotent({ key: idOf })
class MailController {
  @EventPattern('order.shipped') second(@Payload() order: Order): void {
    runs.push(`second ${String(order.id)}`);
  }
}

const options = { controllers: [OrdersController, MailController] };

describe('messages over TCP', () => {
  let client: ClientProxy;
  const store = faultStore(memoryStore());

  beforeAll(async () => {
    const port = await freePort();
    const tcp = { host: '127.0.0.1', port };
    await startMicroservice({ ...options, idempotency: { store } }, { transport: Transport.TCP, options: tcp });
    client = await connectClient({ transport: Transport.TCP, options: tcp });
  });
  beforeEach(() => {
    runs = [];
    gate = undefined;
    store.heal();
  });

  it('a message that comes again gets the reply of the first time, and its handler does not run', async () => {
    const first = await ask(client, 'orders.create', { id: 'again' });
    expect(first).toEqual([{ order: 'again', run: 1, sameContext: true, operation: 'message orders.create' }]);
    expect(await ask(client, 'orders.create', { id: 'again' })).toEqual(first);
    expect(runs).toEqual(['again 1']);
  });

  it.each(['gives nothing', 'gives null', 'gives its own JSON'])(
    'a handler that %s is replayed as it was',
    async (how) => {
      const first = await ask(client, 'orders.create', { id: how, how });
      expect(await ask(client, 'orders.create', { id: how, how })).toEqual(first);
      expect(runs).toHaveLength(1);
    },
  );

  it('the same id with another payload is refused, and the record is untouched', async () => {
    const first = await ask(client, 'orders.create', { id: 'reused', item: 'a' });
    expect(await refusalOf(client, 'orders.create', { id: 'reused', item: 'b' })).toEqual({
      status: 'error',
      code: 'idempotency_key_reused',
      message: expect.any(String) as string,
    });
    expect(await ask(client, 'orders.create', { item: 'a', id: 'reused' })).toEqual(first);
    expect(runs).toHaveLength(1);
  });

  it('the same id under another pattern of one handler is no duplicate', async () => {
    expect(await ask(client, 'stock.add', { id: 'stock' })).toEqual(['stock.add']);
    expect(await refusalOf(client, 'stock.take', { id: 'stock' })).toMatchObject({ code: 'idempotency_key_reused' });
    expect(await ask(client, 'stock.add', { id: 'stock' })).toEqual(['stock.add']);
    expect(runs).toEqual(['stock.add']);
  });

  it('a pattern that is an object names the operation by its members', async () => {
    expect(await ask(client, { version: 2, cmd: 'sum' }, { id: 's' })).toEqual(['message {"cmd":"sum","version":2}']);
    await ask(client, { cmd: 'sum', version: 2 }, { id: 's' });
    expect(runs).toEqual(['s']);
  });

  it.each([
    [{}, 'idempotency_key_missing'],
    [{ id: null }, 'idempotency_key_missing'],
    [{ id: 17 }, 'idempotency_key_invalid'],
    [{ id: '' }, 'idempotency_key_invalid'],
    [{ id: { toString: 'x' } }, 'idempotency_key_invalid'],
    [{ id: 'x'.repeat(256) }, 'idempotency_key_invalid'],
    [{ id: 'zwölf' }, 'idempotency_key_invalid'],
  ])('a message with %j is not run: %s', async (data, code) => {
    expect(await refusalOf(client, 'orders.create', data)).toMatchObject({ status: 'error', code });
    expect(runs).toEqual([]);
  });

  it('a key function that fails leaves the message unrun', async () => {
    expect(await refusalOf(client, 'orders.create', { how: 'has no readable key' })).toEqual({
      status: 'error',
      message: 'Internal server error',
    });
    expect(runs).toEqual([]);
  });

  it('a duplicate of a running message is told so, and when to ask again', async () => {
    const first = ask(client, 'orders.create', { id: 'busy', how: 'waits' });
    await eventually(() => gate !== undefined, 'the handler');
    const refusal = await refusalOf(client, 'orders.create', { id: 'busy', how: 'waits' });
    expect(refusal).toMatchObject({ code: 'idempotency_in_progress', retryAfterSeconds: expect.any(Number) as number });
    gate!();
    const reply = await first;
    expect(await ask(client, 'orders.create', { id: 'busy', how: 'waits' })).toEqual(reply);
    expect(runs).toHaveLength(1);
  });

  it("a duplicate waits for the running one with inFlight: 'join'", async () => {
    const both = [ask(client, 'orders.join', { id: 'join' }), ask(client, 'orders.join', { id: 'join' })];
    await eventually(() => gate !== undefined, 'the handler');
    gate!();
    const [first, second] = await Promise.all(both);
    expect(second).toEqual(first);
    expect(runs).toEqual(['join']);
  });

  it('what a handler throws reaches the asker as ever, and the next message runs', async () => {
    expect(await refusalOf(client, 'orders.create', { id: 'e', how: 'throws' })).toEqual({
      status: 'error',
      message: 'Internal server error',
    });
    expect(await refusalOf(client, 'orders.create', { id: 'd', how: 'declines' })).toEqual({
      code: 'declined',
      message: 'no funds',
    });
    await refusalOf(client, 'orders.create', { id: 'd', how: 'declines' });
    await refusalOf(client, 'orders.create', { id: 'n', how: 'has done nothing' });
    await refusalOf(client, 'orders.create', { id: 'n', how: 'has done nothing' });
    expect(runs).toEqual(['e 1', 'd 1', 'd 2', 'n 1', 'n 2']);
  });

  it('an error that the route records is replayed, without what the asker was not told', async () => {
    const declined = { code: 'declined', message: 'no funds' };
    const unknown = { status: 'error', message: 'Internal server error' };
    for (const _ of [1, 2]) {
      expect(await refusalOf(client, 'orders.kept-refusal', { id: 'a', how: 'declines' })).toEqual(declined);
      expect(await refusalOf(client, 'orders.kept-refusal', { id: 'b' })).toEqual(unknown);
    }
    expect(runs).toEqual(['a', 'b']);
  });

  it('a handler that cannot tell leaves the outcome unknown', async () => {
    const data = { id: 'unknown', how: 'cannot tell' };
    expect(await refusalOf(client, 'orders.create', data)).toMatchObject({ code: 'idempotency_outcome_unknown' });
    expect(await refusalOf(client, 'orders.create', data)).toMatchObject({ code: 'idempotency_outcome_unknown' });
    expect(runs).toHaveLength(1);
  });

  it('all values of an Observable are replayed, in order', async () => {
    const first = await ask(client, 'orders.list', { id: 'list' });
    expect(first).toHaveLength(4);
    expect(await ask(client, 'orders.list', { id: 'list' })).toEqual([1, null, null, { run: 1 }]);
    expect(await ask(client, 'orders.list', { id: 'none', how: 'nothing' })).toEqual([]);
    expect(await ask(client, 'orders.list', { id: 'none', how: 'nothing' })).toEqual([]);
    expect(runs).toEqual(['list', 'none']);
  });

  it('an Observable that breaks is not recorded', async () => {
    await refusalOf(client, 'orders.list', { id: 'broken', how: 'breaks' });
    await refusalOf(client, 'orders.list', { id: 'broken', how: 'breaks' });
    expect(runs).toEqual(['broken', 'broken']);
  });

  it('a reply over maxRecordBytes goes out whole, and never runs again', async () => {
    const parts = await ask(client, 'orders.list', { id: 'much', how: 'much' });
    expect(parts).toHaveLength(100);
    expect(parts[99]).toMatch(/^part 99 /);
    const again = await refusalOf(client, 'orders.list', { id: 'much', how: 'much' });
    expect(again).toMatchObject({ code: 'idempotency_response_not_kept' });
    expect(runs).toEqual(['much']);
  });

  it('without a key where none is required it runs each time; one that is there counts', async () => {
    await ask(client, 'orders.optional', {});
    await ask(client, 'orders.optional', {});
    await ask(client, 'orders.optional', { id: 'o' });
    await ask(client, 'orders.optional', { id: 'o' });
    expect(runs).toHaveLength(3);
    expect(await refusalOf(client, 'orders.optional', { id: 3 })).toMatchObject({ code: 'idempotency_key_invalid' });
  });

  it('keyless: equal payloads are one, but for what does not count', async () => {
    await ask(client, 'orders.keyless', { item: 'a', sentAt: 1 });
    await ask(client, 'orders.keyless', { sentAt: 2, item: 'a' });
    await ask(client, 'orders.keyless', { item: 'b' });
    expect(runs).toHaveLength(2);
  });

  it('a store that is away is told apart from a failure, and nothing has run', async () => {
    store.at('before-claim').fail();
    expect(await refusalOf(client, 'orders.create', { id: 'down' })).toEqual({
      status: 'error',
      code: 'idempotency_store_unavailable',
      message: 'The message was not processed. Send it again later.',
    });
    expect(runs).toEqual([]);
    store.heal();
    await ask(client, 'orders.create', { id: 'down' });
    expect(runs).toHaveLength(1);
  });

  it('an event that comes again runs none of its handlers again, and each of them once', async () => {
    for (const _ of [1, 2, 3]) client.emit('order.shipped', { id: 'ev' });
    client.emit('order.shipped', { id: 'ev2' });
    await eventually(() => runs.length >= 4, 'all handlers');
    await ask(client, 'orders.unprotected', {});
    const seen = runs.filter((run) => run !== 'unprotected').sort();
    expect(seen).toEqual([
      'first ev event order.shipped (OrdersController.first)',
      'first ev2 event order.shipped (OrdersController.first)',
      'second ev',
      'second ev2',
    ]);
  });

  it('handlers without the decorator are untouched', async () => {
    await ask(client, 'orders.unprotected', { id: 'u' });
    await ask(client, 'orders.unprotected', { id: 'u' });
    expect(runs).toEqual(['unprotected', 'unprotected']);
  });
});

describe('messages and interceptors', () => {
  it.each([
    ['inside', { code: 'idempotency_response_not_kept' }],
    ['outside', { values: ['late'] }],
  ])(
    'one %s of ours that loses patience answers; the claim is held until the handler has ended',
    async (where, end) => {
      @Controller()
      class SlowController {
        @MessagePattern('slow')
        @UseInterceptors(...(where === 'inside' ? [Impatient] : []))
        @Idempotent({ key: idOf })
        async slow(@Payload() order: Order) {
          runs.push(String(order.id));
          await opened();
          return 'late';
        }
      }
      const port = await freePort();
      const tcp = { host: '127.0.0.1', port };
      runs = [];
      gate = undefined;
      await startMicroservice(
        {
          controllers: [SlowController],
          providers: where === 'outside' ? [{ provide: APP_INTERCEPTOR, useClass: Impatient }] : [],
        },
        { transport: Transport.TCP, options: tcp },
      );
      const client = await connectClient({ transport: Transport.TCP, options: tcp });
      expect(await refusalOf(client, 'slow', { id: 's' })).toMatchObject({ message: 'Internal server error' });
      expect(await refusalOf(client, 'slow', { id: 's' })).toMatchObject({ code: 'idempotency_in_progress' });
      gate!();
      let later: unknown;
      await eventually(async () => {
        later = await refusalOf(client, 'slow', { id: 's' });
        return (later as { code?: string }).code !== 'idempotency_in_progress';
      }, 'the record');
      expect(later).toMatchObject(end);
      expect(runs).toEqual(['s']);
    },
  );

  it('what fails before the handler (a pipe, an interceptor) is not recorded', async () => {
    let refuses = true;
    @Injectable()
    class Refusing implements NestInterceptor {
      intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
        return refuses
          ? throwError(() => new RpcException('not now'))
          : next.handle().pipe(map((value) => ({ value })));
      }
    }
    @Controller()
    class ReadyController {
      @MessagePattern('ready')
      @Idempotent({ key: idOf })
      ready(@IdempotencyContext() context: IdempotencyRunContext) {
        return context.attempt;
      }
    }
    const port = await freePort();
    const tcp = { host: '127.0.0.1', port };
    await startMicroservice(
      { controllers: [ReadyController], providers: [{ provide: APP_INTERCEPTOR, useClass: Refusing }] },
      { transport: Transport.TCP, options: tcp },
    );
    const client = await connectClient({ transport: Transport.TCP, options: tcp });
    expect(await refusalOf(client, 'ready', { id: 'r' })).toEqual({ status: 'error', message: 'not now' });
    refuses = false;
    expect(await ask(client, 'ready', { id: 'r' })).toEqual([{ value: 1 }]);
    expect(await ask(client, 'ready', { id: 'r' })).toEqual([{ value: 1 }]);
  });
});

describe('a hybrid application', () => {
  @Controller('both')
  class BothController {
    @Post('create')
    @MessagePattern('both.create')
    @Idempotent({ key: (context) => (context.getType() === 'http' ? 'over-http' : idOf(context)) })
    create() {
      runs.push('create');
      return { run: runs.length };
    }
    @Get('runs') list() {
      return runs;
    }
  }

  it.each([undefined, true, false])('is protected with inheritAppConfig: %s', async (inheritAppConfig) => {
    runs = [];
    const port = await freePort();
    const tcp = { host: '127.0.0.1', port };
    const app = await startHybrid(
      { controllers: [BothController] },
      { transport: Transport.TCP, options: tcp },
      inheritAppConfig === undefined ? {} : { inheritAppConfig },
    );
    const client = await connectClient({ transport: Transport.TCP, options: tcp });
    const first = await ask(client, 'both.create', { id: 'm' });
    expect(await ask(client, 'both.create', { id: 'm' })).toEqual(first);
    const answers = [];
    for (const _ of [1, 2]) answers.push(await (await fetch(`${app.url}/both/create`, { method: 'POST' })).json());
    expect(answers).toEqual([{ run: 2 }, { run: 2 }]);
    expect(runs).toHaveLength(2);
    await app.close();
  });

  it('tells apart two that share a controller, or says that it cannot', async () => {
    runs = [];
    const ports = [await freePort(), await freePort()];
    const transports = ports.map((port) => ({
      transport: Transport.TCP as const,
      options: { host: '127.0.0.1', port },
    }));
    await startHybrid({ controllers: [BothController] }, transports[0]!, { inheritAppConfig: true });
    const second = await startHybrid({ controllers: [BothController] }, transports[1]!);
    const clients = await Promise.all(transports.map((transport) => connectClient(transport)));
    expect(await ask(clients[0]!, 'both.create', { id: 'm' })).toEqual([{ run: 1 }]);
    expect(await refusalOf(clients[1]!, 'both.create', { id: 'm' })).toMatchObject({ status: 'error' });
    expect(runs).toHaveLength(1);
    await second.close();
  });
});

describe('a request-scoped controller', () => {
  it('is protected too', async () => {
    @Injectable()
    class PerRequest {}
    @Controller({ scope: 2 })
    class ScopedController {
      constructor(readonly own: PerRequest) {}
      @MessagePattern('scoped')
      @Idempotent({ key: idOf })
      scoped(): Observable<number> {
        runs.push('scoped');
        return timer(1).pipe(map(() => runs.length));
      }
    }
    runs = [];
    const port = await freePort();
    const tcp = { host: '127.0.0.1', port };
    await startHybrid(
      { controllers: [ScopedController], providers: [PerRequest] },
      { transport: Transport.TCP, options: tcp },
    );
    const client = await connectClient({ transport: Transport.TCP, options: tcp });
    expect(await ask(client, 'scoped', { id: 's' })).toEqual([1]);
    expect(await ask(client, 'scoped', { id: 's' })).toEqual([1]);
    expect(runs).toEqual(['scoped']);
    expect(await refusalOf(client, 'scoped', {})).toMatchObject({ code: 'idempotency_key_missing' });
  });
});
