import { Catch, Controller, type ArgumentsHost, type ExecutionContext, type Type } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import {
  Ctx,
  EventPattern,
  MessagePattern,
  Payload,
  RmqContext,
  Transport,
  type RmqOptions,
} from '@nestjs/microservices';
import { connect, type Channel, type ChannelModel, type ConsumeMessage, type Options } from 'amqplib';
import {
  cloudEventKey,
  Idempotent,
  IdempotencyContext,
  memoryStore,
  type IdempotencyRunContext,
  type IdempotencyStore,
} from 'nestjs-idempotency';
import { faultStore } from 'nestjs-idempotency/testing';
import { randomUUID } from 'node:crypto';
import { throwError, timer, map, type Observable } from 'rxjs';
import { eventually } from '../e2e/support/http-client.js';
import { describeRabbitMq } from '../support/brokers.js';
import { startMicroservice, type Running } from './support/application.js';

interface Data {
  how?: string;
}

const messageId = (context: ExecutionContext): string =>
  context.switchToRpc().getContext<RmqContext>().getMessage().properties.messageId as string;

let runs: string[] = [];
let gates: (() => void)[] = [];
const opened = (): Promise<void> => new Promise((resolve) => gates.push(resolve));

function settle(context: RmqContext, word: 'ack' | 'nack' | 'dead' | 'ackAll'): void {
  const channel = context.getChannelRef() as Channel;
  const message = context.getMessage() as ConsumeMessage;
  if (word === 'ack') channel.ack(message);
  if (word === 'nack') channel.nack(message);
  if (word === 'dead') channel.reject(message, false);
  if (word === 'ackAll') channel.ackAll();
}

async function handle(name: string, { how }: Data, context: RmqContext): Promise<unknown> {
  const id = (context.getMessage() as ConsumeMessage).properties.messageId as string;
  runs.push(`${name} ${id}`);
  const isFirst = runs.filter((run) => run === `${name} ${id}`).length === 1;
  switch (how) {
    case 'acks':
      settle(context, 'ack');
      break;
    case 'acks, then waits':
      settle(context, 'ack');
      await opened();
      break;
    case 'waits':
      await opened();
      break;
    case 'throws once':
      if (isFirst) throw new Error('not this time');
      break;
    case 'throws':
      throw new Error('never');
    case 'acks and throws':
      settle(context, 'ack');
      throw new Error('done with it');
    case 'gives back once':
      if (isFirst) settle(context, 'nack');
      break;
    case 'rejects':
      settle(context, 'dead');
      break;
    case 'acks all':
      settle(context, 'ackAll');
      break;
    default:
  }
  return { id, run: runs.length };
}

@Controller()
class OrdersController {
  @EventPattern<unknown>('order.placed')
  @Idempotent({ key: messageId })
  placed(@Payload() data: Data, @Ctx() context: RmqContext) {
    return handle('placed', data, context);
  }

  @EventPattern<unknown>('order.joined')
  @Idempotent({ key: messageId, inFlight: 'join' })
  joined(@Payload() data: Data, @Ctx() context: RmqContext) {
    return handle('joined', data, context);
  }

  @EventPattern<unknown>('order.watched')
  @Idempotent({ key: messageId })
  watched(@Payload() data: Data, @Ctx() context: RmqContext): Observable<unknown> {
    runs.push('watched');
    if (data.how === 'breaks' && runs.length === 1) return throwError(() => new Error('broken'));
    const count = runs.length;
    settle(context, 'ack');
    return timer(20).pipe(map(() => count));
  }

  @MessagePattern('order.price')
  @Idempotent({ key: messageId })
  price(@Payload() data: Data, @Ctx() context: RmqContext) {
    return handle('price', data, context);
  }

  @EventPattern<unknown>('order.optional')
  @Idempotent({ key: messageId, required: false })
  optional(@Payload() data: Data, @Ctx() context: RmqContext) {
    return handle('optional', data, context);
  }
}

/** Two that get one message, which is done when both are. */
@Controller()
class SharedController {
  @EventPattern<unknown>('shared')
  @Idempotent({ key: messageId })
  one(@Payload() _data: Data, @Ctx() context: RmqContext) {
    return handle('one', {}, context);
  }
  @EventPattern<unknown>('shared')
  @Idempotent({ key: messageId })
  two(@Payload() data: Data, @Ctx() context: RmqContext) {
    return handle('two', data, context);
  }
}

@Controller()
class EventsController {
  @EventPattern<unknown>('event')
  @Idempotent({ key: cloudEventKey })
  event(@IdempotencyContext() context: IdempotencyRunContext) {
    runs.push(context.key);
  }
}

/** What applications have who do not want to see a message twice. */
@Catch()
class AckEverything {
  catch(error: unknown, host: ArgumentsHost): Observable<never> {
    settle(host.switchToRpc().getContext<RmqContext>(), 'ack');
    return throwError(() => error);
  }
}

describeRabbitMq('messages over RabbitMQ', (url) => {
  let connection: ChannelModel;
  let channel: Channel;
  let queue: string;
  let dead: string;
  const running: Running[] = [];
  /** Starts a consumer like the last one. */
  let again: () => Promise<unknown>;

  beforeAll(async () => {
    connection = await connect(url());
    channel = await connection.createChannel();
  });
  afterAll(async () => connection?.close());

  beforeEach(async () => {
    runs = [];
    gates = [];
    queue = `idempotency-${randomUUID()}`;
    dead = `${queue}-dead`;
    await channel.assertQueue(dead, { durable: false, autoDelete: false });
    await channel.assertQueue(queue, { durable: false, arguments: deadLetters() });
  });
  afterEach(async () => {
    for (const open of gates) open();
    await Promise.all(running.splice(0).map((app) => app.close()));
    await channel.deleteQueue(queue);
    await channel.deleteQueue(dead);
  });

  const deadLetters = () => ({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead });

  async function consume(
    options: Partial<NonNullable<RmqOptions['options']>> = {},
    store: IdempotencyStore = memoryStore(),
    more: { controllers?: Type[]; providers?: [] } = {},
  ): Promise<Running> {
    const app = await startMicroservice(
      { controllers: [OrdersController], idempotency: { store, lease: '5s' }, ...more },
      {
        transport: Transport.RMQ,
        options: {
          urls: [url()],
          queue,
          noAck: false,
          queueOptions: { durable: false, arguments: deadLetters() },
          ...options,
        },
      },
    );
    running.push(app);
    // Nest does not wait for the broker's word, and a channel that is closed before it is an error.
    await eventually(async () => (await channel.checkQueue(queue)).consumerCount >= running.length, 'a consumer');
    again = () => consume(options, store, more);
    return app;
  }

  function publish(pattern: string, messageId: string | undefined, data: Data = {}, times = 1): void {
    for (let i = 0; i < times; i++) {
      const content = Buffer.from(JSON.stringify({ pattern, data }));
      channel.sendToQueue(queue, content, messageId === undefined ? {} : { messageId });
    }
  }

  const countOf = async (name: string): Promise<number> => (await channel.checkQueue(name)).messageCount;
  /** What is in the queue once nobody consumes it: what was not acknowledged is back then. */
  async function left(): Promise<number> {
    await Promise.all(running.splice(0).map((app) => app.close()));
    return countOf(queue);
  }
  /** What has run by the time at which all messages are acknowledged. A queue does not tell of those that rest with a consumer. */
  async function whenEmpty(): Promise<string[]> {
    for (let round = 1; ; round++) {
      await eventually(async () => (await countOf(queue)) === 0, 'an empty queue');
      if ((await left()) === 0) return runs;
      if (round === 5) throw new Error('There is always a message left');
      await again();
    }
  }
  const ran = (count: number) => eventually(() => runs.length >= count, `${count} runs, not ${runs.length}`);

  it.each(['acks', 'says nothing'])(
    'a message that comes again does not run again and is acknowledged; the handler %s',
    async (how) => {
      await consume({ prefetchCount: 1 });
      publish('order.placed', 'a', { how }, 3);
      publish('order.placed', 'b', { how });
      await ran(2);
      expect(await whenEmpty()).toEqual(['placed a', 'placed b']);
    },
  );

  it('a message that was not acknowledged because its process died is, and does not run again', async () => {
    const store = memoryStore();
    await consume({}, store);
    // As if the consumer had gone after the record, before the acknowledgement: the same message, delivered again.
    publish('order.placed', 'a');
    await ran(1);
    publish('order.placed', 'a');
    await consume({}, store);
    expect(await whenEmpty()).toEqual(['placed a']);
  });

  it("the handler's own ack waits for the record", async () => {
    const store = faultStore(memoryStore());
    store.on('complete').hang();
    await consume({}, store);
    publish('order.placed', 'a', { how: 'acks' });
    await eventually(() => store.count('complete') > 0, 'the record');
    // The consumer goes away while its record is being written: the message is still the queue's.
    const [app] = running.splice(0);
    const closing = app!.close();
    await eventually(async () => (await countOf(queue)) === 1, 'the message to be back');
    store.heal();
    await closing;
  });

  it('a duplicate of a running message goes back into the queue, and is acknowledged when the first is done', async () => {
    const store = faultStore(memoryStore());
    await consume({}, store);
    publish('order.placed', 'a', { how: 'acks, then waits' }, 2);
    await eventually(() => gates.length > 0 && store.count('claim') >= 2, 'the duplicate');
    expect(runs).toEqual(['placed a']);
    for (const open of gates) open();
    expect(await whenEmpty()).toEqual(['placed a']);
  });

  it('none of two is acknowledged while the first runs', async () => {
    const store = memoryStore();
    await consume({}, store);
    publish('order.placed', 'a', { how: 'waits' }, 2);
    await eventually(() => gates.length > 0, 'the handler');
    const [app] = running.splice(0);
    const closing = app!.close();
    await eventually(async () => (await countOf(queue)) === 2, 'both messages to be back');
    for (const open of gates) open();
    await closing;
    await consume({}, store);
    expect(await whenEmpty()).toEqual(['placed a']);
  });

  it("a duplicate waits for the running one with inFlight: 'join'", async () => {
    const store = faultStore(memoryStore());
    await consume({}, store);
    publish('order.joined', 'a', { how: 'waits' }, 2);
    await eventually(() => gates.length > 0 && store.count('claim') >= 2, 'the duplicate');
    for (const open of gates) open();
    expect(await whenEmpty()).toEqual(['joined a']);
  });

  it('an event whose handler throws comes again after a pause, and runs again', async () => {
    await consume();
    publish('order.placed', 'a', { how: 'throws once' });
    await ran(2);
    expect(await whenEmpty()).toEqual(['placed a', 'placed a']);
  });

  it('an event whose handler goes on throwing is never lost', async () => {
    await consume();
    publish('order.placed', 'a', { how: 'throws' });
    await ran(2);
    expect(await left()).toBe(1);
  });

  it('the word of a handler that throws counts: it is done with the message', async () => {
    await consume();
    publish('order.placed', 'a', { how: 'acks and throws' });
    await ran(1);
    expect(await whenEmpty()).toEqual(['placed a']);
  });

  it('a handler that gives the message back has not done it', async () => {
    await consume();
    publish('order.placed', 'a', { how: 'gives back once' });
    await ran(2);
    expect(await whenEmpty()).toEqual(['placed a', 'placed a']);
  });

  it('a handler that rejects the message sends it to the dead letters, and its key is free', async () => {
    await consume();
    publish('order.placed', 'a', { how: 'rejects' });
    await eventually(async () => (await countOf(dead)) === 1, 'a dead letter');
    publish('order.placed', 'a', { how: 'rejects' });
    await eventually(async () => (await countOf(dead)) === 2, 'another dead letter');
    expect(runs).toHaveLength(2);
  });

  it('what would acknowledge other messages as well is refused', async () => {
    await consume();
    publish('order.placed', 'a', { how: 'acks all' });
    await ran(1);
    expect(await left()).toBe(1);
  });

  it('an Observable counts when it has ended', async () => {
    await consume();
    publish('order.watched', 'a', { how: 'breaks' });
    await ran(2);
    expect(await whenEmpty()).toEqual(['watched', 'watched']);
  });

  it.each([
    ['no id', undefined],
    ['an empty id', ''],
    ['an id that is no key', 'zwölf'],
  ])('a message with %s is not run and goes to the dead letters', async (_, id) => {
    await consume();
    publish('order.placed', id);
    await eventually(async () => (await countOf(dead)) === 1, 'a dead letter');
    expect(runs).toEqual([]);
    expect(await left()).toBe(0);
  });

  it('the same id with another payload is not run and goes to the dead letters', async () => {
    await consume({ prefetchCount: 1 });
    publish('order.placed', 'a');
    publish('order.placed', 'a', { how: 'acks' });
    await eventually(async () => (await countOf(dead)) === 1, 'a dead letter');
    expect(await whenEmpty()).toEqual(['placed a']);
  });

  it('while the store is away messages wait in the queue, also past a filter that acknowledges every error', async () => {
    const store = faultStore(memoryStore());
    store.on('claim').fail();
    const filter = { provide: APP_FILTER, useClass: AckEverything };
    await consume({}, store, { providers: [filter] as never });
    publish('order.placed', 'a', {}, 2);
    await eventually(() => store.count('claim') >= 3, 'deliveries that come again');
    expect(runs).toEqual([]);
    store.heal();
    await ran(1);
    expect(await whenEmpty()).toEqual(['placed a']);
  });

  it('a filter may acknowledge what a handler has thrown', async () => {
    const filter = { provide: APP_FILTER, useClass: AckEverything };
    await consume({}, memoryStore(), { providers: [filter] as never });
    publish('order.placed', 'a', { how: 'throws' });
    await ran(1);
    expect(await whenEmpty()).toEqual(['placed a']);
  });

  it('a message for several handlers is done when all of them are', async () => {
    await consume({}, memoryStore(), { controllers: [SharedController] });
    publish('shared', 'a', { how: 'throws once' });
    await eventually(() => runs.filter((run) => run === 'two a').length === 2, 'the second one to run again');
    expect((await whenEmpty()).sort()).toEqual(['one a', 'two a', 'two a']);
  });

  it('a message without a key, where none is required, is acknowledged as well', async () => {
    await consume();
    publish('order.optional', undefined, {}, 2);
    await ran(2);
    expect(await whenEmpty()).toHaveLength(2);
  });

  it('nothing is acknowledged where the queue does it by itself (noAck)', async () => {
    await consume({ noAck: true });
    publish('order.placed', 'a', {}, 3);
    publish('order.placed', undefined);
    await ran(1);
    publish('order.placed', 'b');
    await ran(2);
    // An acknowledgement too many would have closed the channel: it still consumes.
    publish('order.placed', 'c');
    await ran(3);
    expect(runs).toEqual(['placed a', 'placed b', 'placed c']);
  });

  describe('with a reply', () => {
    let replies: { correlationId: unknown; response?: unknown; err?: { code?: string; message?: string } }[];
    let replyTo: string;

    beforeEach(async () => {
      replies = [];
      replyTo = (await channel.assertQueue('', { exclusive: true })).queue;
      await channel.consume(
        replyTo,
        (message) => {
          const content = JSON.parse(message!.content.toString()) as { response?: unknown; err?: { code?: string } };
          if ('response' in content || 'err' in content)
            replies.push({ ...content, correlationId: message!.properties.correlationId as unknown });
        },
        { noAck: true },
      );
    });

    function request(id: string, data: Data = {}): void {
      const correlationId = randomUUID();
      const content = Buffer.from(JSON.stringify({ pattern: 'order.price', data, id: correlationId }));
      channel.sendToQueue(queue, content, { messageId: id, replyTo, correlationId });
    }

    it('each asker gets the reply of the first run', async () => {
      await consume({ prefetchCount: 1 });
      for (const _ of [1, 2, 3]) request('a', { how: 'acks' });
      await eventually(() => replies.length === 3, 'three replies');
      expect(replies.map(({ response }) => response)).toEqual([1, 2, 3].map(() => ({ id: 'a', run: 1 })));
      expect(new Set(replies.map(({ correlationId }) => correlationId)).size).toBe(3);
      expect(await whenEmpty()).toEqual(['price a']);
    });

    it('an asker that is told of a failure decides by itself: the message is acknowledged', async () => {
      await consume();
      request('a', { how: 'throws' });
      await eventually(() => replies.length === 1, 'a reply');
      expect(replies[0]!.err).toMatchObject({ message: 'Internal server error' });
      expect(await whenEmpty()).toEqual(['price a']);
    });

    it('an asker that is too early is told so, and gets the reply when the message comes again', async () => {
      await consume();
      request('a', { how: 'waits' });
      await ran(1);
      request('a', { how: 'waits' });
      await eventually(() => replies.some(({ err }) => err?.code === 'idempotency_in_progress'), 'the refusal');
      for (const open of gates) open();
      await eventually(() => replies.filter(({ response }) => response).length === 2, 'both replies');
      expect(await whenEmpty()).toEqual(['price a']);
    });
  });

  describe('CloudEvents', () => {
    /** Anything that is a property of AMQP, with the data of the event as its body. */
    function publishEvent(properties: Options.Publish, data: unknown = {}, times = 1): void {
      const content = Buffer.from(JSON.stringify({ pattern: 'event', data }));
      for (let i = 0; i < times; i++) channel.sendToQueue(queue, content, properties);
    }

    it.each(['cloudEvents:', 'cloudEvents_'])('in binary mode are told apart by %ssource and id', async (prefix) => {
      await consume({}, memoryStore(), { controllers: [EventsController] });
      const named = (source: string, id: string): Options.Publish => ({
        contentType: 'application/json',
        // Of a delivery, and not of the event: another one each time.
        messageId: randomUUID(),
        headers: { [`${prefix}specversion`]: '1.0', [`${prefix}source`]: source, [`${prefix}id`]: id },
      });
      for (const _ of [1, 2, 3]) publishEvent(named('/shop/1', 'a'));
      publishEvent(named('/shop/2', 'a'));
      // Unlike over HTTP, a property holds any text: there is no percent-encoding to undo.
      publishEvent(named('/shop/1', 'a%20b'));
      publishEvent(named('/shop/1', 'a b'));
      await ran(4);
      const keys = ['7:/shop/1:a', '7:/shop/2:a', '7:/shop/1:a%20b', '7:/shop/1:a b'];
      expect((await whenEmpty()).sort()).toEqual(keys.sort());
    });

    it('in structured mode are read from the data, also where properties name another one', async () => {
      await consume({}, memoryStore(), { controllers: [EventsController] });
      const data = { specversion: '1.0', source: '/shop/1', id: 'inside' };
      const headers = { 'cloudEvents:source': '/relay', 'cloudEvents:id': 'outside' };
      publishEvent({ contentType: 'application/cloudevents+json' }, data, 2);
      publishEvent({ contentType: 'application/cloudevents+json; charset=utf-8', headers }, data);
      publishEvent({}, data);
      await ran(1);
      expect(await whenEmpty()).toEqual(['7:/shop/1:inside']);
    });

    it('without a part of their name do not run, and are not lost', async () => {
      await consume({}, memoryStore(), { controllers: [EventsController] });
      publishEvent({ headers: { 'cloudEvents:source': '/shop/1' } });
      publishEvent({ headers: { 'cloudEvents:source': '/shop/1', 'cloudEvents:id': 7 } });
      publishEvent({});
      await eventually(async () => (await countOf(dead)) === 3, 'three dead letters');
      expect(await whenEmpty()).toEqual([]);
    });
  });
});
