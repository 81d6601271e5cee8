import { Controller, type ExecutionContext } from '@nestjs/common';
import {
  EventPattern,
  MessagePattern,
  NatsContext,
  NatsRecordBuilder,
  Payload,
  Transport,
  type ClientProxy,
  type NatsOptions,
  type RedisOptions,
} from '@nestjs/microservices';
import { headers, type MsgHdrs } from '@nats-io/transport-node';
import { cloudEventKey, Idempotent, IdempotencyContext, type IdempotencyRunContext } from 'nestjs-idempotency';
import { randomUUID } from 'node:crypto';
import { from, type Observable } from 'rxjs';
import { eventually } from '../e2e/support/http-client.js';
import { describeNats } from '../support/brokers.js';
import { describeRedis, redisUrl } from '../support/redis-server.js';
import { ask, connectClient, refusalOf, startHybrid, startMicroservice, type Running } from './support/application.js';

interface Order {
  id?: unknown;
}

const idOf = (context: ExecutionContext): string => context.switchToRpc().getData<Order>().id as string;
function tenantOf(context: ExecutionContext): string {
  const head = context.switchToRpc().getContext<NatsContext>().getHeaders() as MsgHdrs | undefined;
  return head?.get('tenant') || 'none';
}

const prefix = `idempotency-${randomUUID()}`;
const pattern = (name: string): string => `${prefix}.${name}`;

let runs: string[] = [];

@Controller()
class OrdersController {
  @MessagePattern(pattern('create'))
  @Idempotent({ key: idOf })
  create(@Payload() order: Order) {
    runs.push(`create ${String(order.id)}`);
    return { run: runs.length };
  }

  @MessagePattern(pattern('list'))
  @Idempotent({ key: idOf })
  list(): Observable<number> {
    runs.push('list');
    return from([1, 2, 3]);
  }

  @EventPattern(pattern('placed'))
  @Idempotent({ key: idOf })
  placed(@Payload() order: Order): void {
    runs.push(`placed ${String(order.id)}`);
  }

  @MessagePattern(pattern('done'))
  done() {
    return runs;
  }
}

/** What every transport has to do alike, however it finds its handlers. */
function behavesAlike(client: () => ClientProxy): void {
  beforeEach(() => void (runs = []));

  it('each asker gets the reply of the first run', async () => {
    const first = await ask(client(), pattern('create'), { id: 'a' });
    const more = await Promise.all([1, 2, 3].map(() => ask(client(), pattern('create'), { id: 'a' })));
    expect(more).toEqual([first, first, first]);
    expect(runs).toEqual(['create a']);
  });

  it('all values of an Observable are replayed', async () => {
    expect(await ask(client(), pattern('list'), { id: 'l' })).toEqual([1, 2, 3]);
    expect(await ask(client(), pattern('list'), { id: 'l' })).toEqual([1, 2, 3]);
    expect(runs).toEqual(['list']);
  });

  it('an event that is sent again does not run again', async () => {
    for (const id of ['e', 'e', 'f', 'e', 'f']) client().emit(pattern('placed'), { id });
    await eventually(() => runs.length >= 2, 'both events');
    await ask(client(), pattern('done'), {});
    expect(runs.sort()).toEqual(['placed e', 'placed f']);
  });

  it('what is refused says why', async () => {
    expect(await refusalOf(client(), pattern('create'), {})).toMatchObject({ code: 'idempotency_key_missing' });
    expect(await refusalOf(client(), pattern('create'), { id: 1 })).toMatchObject({ code: 'idempotency_key_invalid' });
    await ask(client(), pattern('create'), { id: 'r' });
    expect(await refusalOf(client(), pattern('create'), { id: 'r', more: 1 })).toMatchObject({
      code: 'idempotency_key_reused',
    });
    expect(runs).toEqual(['create r']);
  });
}

describeRedis('messages over Redis', () => {
  let client: ClientProxy;

  beforeAll(async () => {
    const { hostname: host, port } = new URL(redisUrl());
    const transport: RedisOptions = { transport: Transport.REDIS, options: { host, port: Number(port) } };
    await startMicroservice({ controllers: [OrdersController] }, transport);
    client = await connectClient(transport);
  });

  behavesAlike(() => client);
});

describeNats('messages over NATS', (url) => {
  let client: ClientProxy;
  let running: Running;

  @Controller()
  class EventsController {
    @MessagePattern(pattern('cloud-event'))
    @Idempotent({
      key: cloudEventKey,
      scope: tenantOf,
    })
    cloudEvent(@IdempotencyContext() context: IdempotencyRunContext) {
      runs.push(context.key);
      return context.key;
    }
  }

  const transport = (): NatsOptions => ({ transport: Transport.NATS, options: { servers: [url()], queue: prefix } });

  beforeAll(async () => {
    running = await startHybrid({ controllers: [OrdersController, EventsController] }, transport(), {
      inheritAppConfig: true,
    });
    client = await connectClient(transport());
  });
  afterAll(() => running?.close());

  behavesAlike(() => client);

  function event(fields: Record<string, string>, data: unknown = {}): unknown {
    const head = headers();
    for (const [name, value] of Object.entries(fields)) head.set(name, value);
    return new NatsRecordBuilder(data).setHeaders(head).build();
  }

  it('CloudEvents are told apart by source and id, in the headers and in the data; tenants by their scope', async () => {
    const send = (fields: Record<string, string>, data?: unknown) =>
      ask(client, pattern('cloud-event'), event(fields, data));
    const first = { 'ce-source': '/shop/1', 'ce-id': 'a%20b', 'ce-specversion': '1.0' };
    expect(await send(first)).toEqual(['7:/shop/1:a b']);
    await send(first);
    await send({ ...first, 'ce-source': '/shop/2' });
    await send({ ...first, tenant: 'other' });
    await send({}, { specversion: '1.0', source: '/shop/1', id: 'in the data' });
    await send({}, { id: 'in the data', source: '/shop/1', specversion: '1.0' });
    expect(runs).toEqual(['7:/shop/1:a b', '7:/shop/2:a b', '7:/shop/1:a b', '7:/shop/1:in the data']);
    expect(await refusalOf(client, pattern('cloud-event'), event({ 'ce-id': 'x' }))).toMatchObject({
      code: 'idempotency_key_invalid',
    });
    expect(await refusalOf(client, pattern('cloud-event'), {})).toMatchObject({ code: 'idempotency_key_missing' });
  });
});
