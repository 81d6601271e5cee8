import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClaimRequest, IdempotencyStore } from '../../lib/core/store.js';
import { describeRedis, redisUrl, startRedis, startRedisCluster } from '../support/redis-server.js';
import {
  answer,
  ioredis,
  ioredisCluster,
  nodeRedis,
  nodeRedisCluster,
  nodeRedisPool,
  Opened,
  request,
  streamHead,
  until,
  type TestClient,
} from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

type Settle = (store: IdempotencyStore, claim: ClaimRequest) => Promise<unknown>;

const completes: Settle = (store, claim) => store.complete(claim, answer('done'), 60_000);
const appends: Settle = (store, claim) =>
  store.events!.append(claim, { firstSeq: 1, items: [Buffer.from('token')], head: streamHead }, 30_000);

async function medianWake(connect: () => TestClient | Promise<TestClient>, settle = completes): Promise<number> {
  const waiting = await opened.store(connect());
  const working = await opened.store(connect());
  const times: number[] = [];
  for (let round = 0; round < 31; round++) {
    const claim = request();
    await until(() =>
      working.claim(claim).then(
        () => true,
        () => false,
      ),
    );
    let woken = 0;
    const end = waiting.subscribe!(claim.recordKey, () => (woken ||= performance.now()));
    // The first subscription opens the connection.
    if (round === 0) await sleep(500);
    const started = performance.now();
    await settle(working, claim);
    await until(() => woken > 0, 5_000);
    times.push(woken - started);
    end();
  }
  return times.sort((a, b) => a - b)[15]!;
}

describeRedis('Hints', () => {
  it.each<[string, () => TestClient | Promise<TestClient>]>([
    ['ioredis', () => ioredis(redisUrl())],
    ['ioredis without an offline queue', () => ioredis(redisUrl(), { enableOfflineQueue: false })],
    ['ioredis with a keyPrefix', () => ioredis(redisUrl(), { keyPrefix: 'app:' })],
    ['node-redis', () => nodeRedis(redisUrl())],
    ['a pool of node-redis', () => nodeRedisPool(redisUrl())],
  ])('wake a waiter of another client under 50 ms, median: %s', async (_name, connect) => {
    expect(await medianWake(connect)).toBeLessThan(50);
    expect(await medianWake(connect, appends)).toBeLessThan(50);
  });

  it('cross the nodes of a Cluster', async () => {
    const cluster = await startRedisCluster(3);
    opened.later(() => cluster.stop());
    for (const settle of [completes, appends]) {
      expect(await medianWake(() => ioredisCluster(cluster.nodes), settle)).toBeLessThan(50);
      expect(await medianWake(() => nodeRedisCluster(cluster.nodes), settle)).toBeLessThan(50);
    }
  }, 60_000);

  it.each<[string, (url: string) => TestClient | Promise<TestClient>]>([
    ['ioredis', (url) => ioredis(url)],
    ['node-redis', (url) => nodeRedis(url)],
  ])('wake all waiters once the connection is back: %s', async (_name, connect) => {
    const server = await startRedis();
    opened.later(() => server.stop());
    const store = await opened.store(connect(server.url));
    let woken = 0;
    store.subscribe!('one', () => woken++);
    store.subscribe!('two', () => woken++);
    const admin = ioredis(server.url);
    opened.later(() => admin.close());
    await until(async () => String(await admin.client.call('PUBSUB', 'NUMSUB', 'idempotency:settled')).endsWith('1'));
    await server.restart();
    await until(() => woken >= 2);
    const claim = request();
    await until(() =>
      store.claim(claim).then(
        () => true,
        () => false,
      ),
    );
    await until(async () => String(await admin.client.call('PUBSUB', 'NUMSUB', 'idempotency:settled')).endsWith('1'));
    woken = 0;
    store.subscribe!(claim.recordKey, () => woken++);
    await admin.client.publish('idempotency:settled', claim.recordKey);
    await until(() => woken > 0);
  });

  it('come over a client that is given for them, which stays open', async () => {
    for (const subscriber of [ioredis(redisUrl()), await nodeRedis(redisUrl())]) {
      opened.later(() => subscriber.close());
      const store = await opened.store(ioredis(redisUrl()), { subscriber: subscriber.client });
      const other = await opened.store(ioredis(redisUrl()));
      const claim = request();
      await other.claim(claim);
      let woken = 0;
      store.subscribe!(claim.recordKey, () => woken++);
      await sleep(100);
      await other.release(claim, { began: true });
      await until(() => woken > 0);
      await store.stop?.();
      const client = subscriber.client as { status?: string; isOpen?: boolean };
      expect(client.status === 'ready' || client.isOpen).toBe(true);
    }
  });

  it('of this process come without any connection for them', async () => {
    const { client, close } = ioredis(redisUrl());
    client.duplicate = () => {
      throw new Error('no more connections');
    };
    const store = await opened.store({ client, close });
    const claim = request();
    await store.claim(claim);
    let woken = 0;
    store.subscribe!(claim.recordKey, () => woken++);
    await store.complete(claim, answer('done'), 60_000);
    expect(woken).toBe(1);
  });

  it('leave no connection behind: stop() closes what the store opened, and no more', async () => {
    const server = await startRedis();
    opened.later(() => server.stop());
    const admin = ioredis(server.url);
    opened.later(() => admin.close());
    await once(admin.client, 'ready');
    const connections = async (): Promise<number> =>
      String(await admin.client.client('LIST'))
        .trim()
        .split('\n').length;
    for (const connect of [() => ioredis(server.url), () => nodeRedis(server.url), () => nodeRedisPool(server.url)]) {
      const one = await connect();
      const store = await opened.store(one);
      await store.start?.();
      const before = await connections();
      store.subscribe!('some-key', () => undefined);
      await until(async () => (await connections()) === before + 1);
      await store.stop?.();
      await until(async () => (await connections()) === before);
      // Stopped while it still connects.
      const hasty = await opened.store({ client: one.client, close: () => undefined });
      hasty.subscribe!('some-key', () => undefined);
      await hasty.stop?.();
      await sleep(100);
      await until(async () => (await connections()) === before);
      expect(await store.find('x')).toBeUndefined();
    }
  });
});
