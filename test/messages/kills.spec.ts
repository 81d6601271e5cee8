import { Transport, type ClientProxy } from '@nestjs/microservices';
import { connect, type ChannelModel, type ConfirmChannel } from 'amqplib';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { firstValueFrom, timeout } from 'rxjs';
import { eventually } from '../e2e/support/http-client.js';
import { describeNats, describeRabbitMq } from '../support/brokers.js';
import type { Done } from './fixtures/consumer.js';
import { connectClient } from './support/application.js';
import { Consumers } from './support/consumers.js';

/** The full count is 1,000, with a kill for each 50 messages; by default what a test run has time for. */
const MESSAGES = Number(process.env.MESSAGE_COUNT ?? 90);
const KILLS = Math.max(3, Math.round(MESSAGES / 50));
const PATIENCE_MS = 60_000 + MESSAGES * 300;

/** Each message one to three times, in an order that puts some repetitions next to each other and others far apart. */
function deliveries(): string[] {
  const ids = Array.from({ length: MESSAGES }, (_, i) => `m${i}`);
  const all = ids.flatMap((id, i) => Array.from({ length: 1 + (i % 3) }, () => id));
  return all
    .map((id, i) => ({ id, at: i + Math.random() * (i % 2 === 0 ? 6 : MESSAGES / 2) }))
    .sort((a, b) => a.at - b.at)
    .map(({ id }) => id);
}

/** Sends what there is in as many parts as there are kills, each of which comes while its part is being worked on. */
async function sendThroughKills(
  consumers: Consumers,
  sendPart: (ids: readonly string[]) => void | Promise<void>,
): Promise<void> {
  const all = deliveries();
  const size = Math.ceil(all.length / KILLS);
  const sent = new Set<string>();
  for (let from = 0; from < all.length; from += size) {
    const part = all.slice(from, from + size);
    const before = sent.size;
    for (const id of part) sent.add(id);
    await sendPart(part);
    const some = before + Math.ceil((sent.size - before) / 4);
    await eventually(async () => (await consumers.effectCount()) >= some, `${some} effects`, PATIENCE_MS);
    await consumers.replaceOne();
  }
}

async function expectEachOnce(consumers: Consumers): Promise<Done[]> {
  await eventually(async () => (await consumers.effectCount()) >= MESSAGES, 'an effect of each message', PATIENCE_MS);
  const effects = await consumers.effects();
  const ids = new Set(effects.map(({ id }) => id));
  expect({ effects: effects.length, messages: ids.size }).toEqual({ effects: MESSAGES, messages: MESSAGES });
  return effects;
}

async function report(what: string, consumers: Consumers, deliveryCount: number, since: number): Promise<void> {
  const starts = await consumers.startCount();
  console.log(
    `${what}: ${MESSAGES} messages, ${deliveryCount} sendings, ${consumers.kills} kills, ${starts} starts of a handler, ${Math.round((Date.now() - since) / 1000)} s`,
  );
}

describeRabbitMq('RabbitMQ, with consumers that are killed', (url) => {
  let connection: ChannelModel;
  let channel: ConfirmChannel;
  let consumers: Consumers | undefined;
  const queue = `idempotency-kills-${randomUUID()}`;

  beforeAll(async () => {
    connection = await connect(url());
    channel = await connection.createConfirmChannel();
    await channel.assertQueue(queue, { durable: true });
    consumers = await Consumers.start(2, { transport: 'rabbitmq', brokerUrl: url(), queue });
  }, 120_000);
  afterAll(async () => {
    await consumers?.remove();
    await channel?.deleteQueue(queue);
    await connection?.close();
  }, 60_000);

  /** A queue does not tell of the messages that rest with a consumer: it has them back when that is gone. */
  async function whenAllAreAcknowledged(): Promise<void> {
    const countInQueue = async (): Promise<number> => (await channel.checkQueue(queue)).messageCount;
    for (let round = 1; ; round++) {
      await eventually(async () => (await countInQueue()) === 0, 'an empty queue', PATIENCE_MS);
      await consumers!.stopAll();
      if ((await countInQueue()) === 0) return;
      if (round === 10) throw new Error('There is always a message left');
      await consumers!.startAgain(2);
    }
  }

  it(
    'each message has its effect once, and none is left in the queue',
    async () => {
      const since = Date.now();
      let count = 0;
      await sendThroughKills(consumers!, async (ids) => {
        count += ids.length;
        for (const id of ids) {
          const content = Buffer.from(JSON.stringify({ pattern: 'done', data: { id } }));
          channel.sendToQueue(queue, content, { persistent: true, messageId: id });
        }
        await channel.waitForConfirms();
      });
      await expectEachOnce(consumers!);
      // The repetitions are acknowledged as well: once the consumers are gone, nothing comes back.
      await whenAllAreAcknowledged();
      await report('RabbitMQ', consumers!, count, since);
      await expectEachOnce(consumers!);
    },
    4 * PATIENCE_MS,
  );
});

describeNats('NATS, with consumers that are killed', (url) => {
  let client: ClientProxy;
  let consumers: Consumers | undefined;
  const queue = `idempotency-kills-${randomUUID()}`;

  beforeAll(async () => {
    client = await connectClient({ transport: Transport.NATS, options: { servers: [url()] } });
    consumers = await Consumers.start(2, { transport: 'nats', brokerUrl: url(), queue });
  }, 120_000);
  afterAll(async () => consumers?.remove(), 60_000);

  /** NATS keeps nothing: an asker that gets no reply asks again, as it has to. */
  async function askUntilAnswered(id: string): Promise<Done> {
    const until = Date.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await firstValueFrom(client.send<Done>('do', { id }).pipe(timeout(3_000)));
      } catch (error) {
        if (Date.now() > until) throw error;
        await sleep(100);
      }
    }
  }

  it(
    'each message has its effect once, and all askers get the same reply',
    async () => {
      const since = Date.now();
      const asked: Promise<Done>[] = [];
      await sendThroughKills(consumers!, (ids) => {
        for (const id of ids) asked.push(askUntilAnswered(id));
      });
      const replies = await Promise.all(asked);
      const effects = await expectEachOnce(consumers!);
      const told = new Map(effects.map((effect) => [effect.id, effect]));
      expect(replies.filter((reply) => JSON.stringify(reply) !== JSON.stringify(told.get(reply.id)))).toEqual([]);
      await report('NATS', consumers!, asked.length, since);
    },
    4 * PATIENCE_MS,
  );
});
