import { setTimeout as sleep } from 'node:timers/promises';
import type { Claim } from '../../lib/core/record.js';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { keySlot } from '../../lib/stores/redis/redis.slot.js';
import { describeRedis, startRedis, startRedisCluster, type RedisServer } from '../support/redis-server.js';
import { startProxy } from '../support/tcp-proxy.js';
import {
  allItems,
  ioredis,
  ioredisCluster,
  nodeRedis,
  nodeRedisCluster,
  nodeRedisPool,
  Opened,
  request,
  streamHead,
  until,
  won,
  type TestClient,
} from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

const clients: [name: string, connect: (url: string) => TestClient | Promise<TestClient>][] = [
  ['ioredis', (url) => ioredis(url)],
  ['node-redis', (url) => nodeRedis(url)],
  ['a pool of node-redis', (url) => nodeRedisPool(url)],
];

async function server(...args: string[]): Promise<RedisServer> {
  const started = await startRedis({ args });
  opened.later(() => started.stop());
  return started;
}

/** A producer as the engine has one: a batch that fails is sent again until it is known to be in the log. */
class Producer {
  sent = 0;
  failures = 0;
  lost = false;

  constructor(
    private readonly store: IdempotencyStore,
    readonly claim: Claim,
  ) {}

  async append(count: number): Promise<void> {
    const firstSeq = this.sent + 1;
    const items = Array.from({ length: count }, (_, i) => Buffer.from(`item ${firstSeq + i}`));
    const batch = { firstSeq, items, ...(firstSeq === 1 ? { head: streamHead } : {}) };
    for (;;) {
      const said = await this.store.events!.append(this.claim, batch, 60_000).catch(() => undefined);
      if (said === 'lost') this.lost = true;
      if (said !== undefined) break;
      this.failures++;
      await sleep(20);
    }
    this.sent += count;
  }

  /** Insists that the log has what was sent: each item once, in order. */
  async expectAll(): Promise<void> {
    expect(this.lost).toBe(false);
    const { items } = await allItems(this.store, this.claim);
    expect(items.map(String)).toEqual(Array.from({ length: this.sent }, (_, i) => `item ${i + 1}`));
  }
}

/** Waits until the store can be asked. */
function answers(store: IdempotencyStore): Promise<void> {
  return until(() =>
    store.find('x').then(
      () => true,
      () => false,
    ),
  );
}

describeRedis('A stream in Redis in trouble', () => {
  it.each(clients)(
    'has each item once, though 30 replies of appends were lost: %s',
    async (_name, connect) => {
      const redis = await server();
      const proxy = await startProxy(redis.port);
      opened.later(() => proxy.close());
      const store = await opened.store(connect(`redis://127.0.0.1:${proxy.port}`), { deadline: '2s' });
      const producer = new Producer(store, await won(store, request()));
      // Its script is known, so that the reply that is lost is an append's and not NOSCRIPT.
      await producer.append(1);
      for (let round = 0; round < 30; round++) {
        proxy.dropReplies(1);
        await producer.append(1 + (round % 3));
        await answers(store);
      }
      proxy.dropReplies(false);
      await producer.expectAll();
    },
    60_000,
  );

  it.each(clients)('has each item once after Redis stood still in the middle: %s', async (_name, connect) => {
    const redis = await server();
    const store = await opened.store(connect(redis.url), { deadline: '200ms' });
    const producer = new Producer(store, await won(store, request()));
    let stop = false;
    const work = (async () => {
      while (!stop) await producer.append(3);
    })();
    for (let round = 0; round < 3; round++) {
      await sleep(100);
      redis.pause();
      await sleep(500);
      redis.resume();
      const before = producer.sent;
      await until(() => producer.sent > before + 30);
    }
    stop = true;
    await work;
    expect(producer.failures).toBeGreaterThan(0);
    await producer.expectAll();
  });

  it.each(clients)('goes on through SCRIPT FLUSH at any moment: %s', async (_name, connect) => {
    const redis = await server();
    const store = await opened.store(connect(redis.url), { deadline: '5s' });
    const admin = ioredis(redis.url);
    opened.later(() => admin.close());
    const producer = new Producer(store, await won(store, request()));
    let stop = false;
    let flushes = 0;
    const flushing = (async () => {
      while (!stop) {
        await admin.client.script('FLUSH');
        flushes++;
      }
    })();
    for (let round = 0; round < 200; round++) await producer.append(2);
    await producer.expectAll();
    stop = true;
    await flushing;
    expect(flushes).toBeGreaterThan(50);
    expect(producer.failures).toBe(0);
  });

  it('has every acknowledged item after kill -9 with appendfsync always', async () => {
    const redis = await server('--appendfsync', 'always');
    const store = await opened.store(ioredis(redis.url), { deadline: '500ms' });
    const producer = new Producer(store, await won(store, request()));
    let stop = false;
    const work = (async () => {
      while (!stop) await producer.append(2);
    })();
    await until(() => producer.sent > 300);
    await redis.kill();
    const acknowledged = producer.sent;
    await redis.restart();
    await answers(store);
    const page = await store.events!.read(producer.claim, 0, 1);
    expect(page!.tail).toBeGreaterThanOrEqual(acknowledged);
    await until(() => producer.sent > acknowledged + 30);
    stop = true;
    await work;
    await producer.expectAll();
  });

  it('that does not fit says out of memory, is as it was, and takes the batch once there is room', async () => {
    const redis = await server('--maxmemory-policy', 'noeviction');
    const admin = ioredis(redis.url);
    opened.later(() => admin.close());
    const store = await opened.store(ioredis(redis.url));
    const claim = await won(store, request());
    const append = (firstSeq: number) => {
      const items = [Buffer.from('secret'), Buffer.from('b')];
      return store.events!.append(claim, { firstSeq, items, ...(firstSeq === 1 ? { head: streamHead } : {}) }, 60_000);
    };
    await append(1);
    const key = `idempotency:{${claim.recordKey}}`;
    const before = await admin.client.hgetall(key);
    await admin.client.config('SET', 'maxmemory', '1');
    await expect(append(3)).rejects.toThrow(/OOM/);
    await expect(append(3)).rejects.not.toThrow(/secret/);
    await expect(store.steps!.save(claim, 'step', Buffer.from('x'), 60_000)).rejects.toThrow(/OOM/);
    // Nor is anything begun that could not be completed.
    await expect(store.claim(request())).rejects.toThrow(/OOM/);
    expect(await admin.client.hgetall(key)).toEqual(before);
    await admin.client.config('SET', 'maxmemory', '0');
    expect(await append(3)).toBe('written');
    expect(await store.events!.read(claim, 0, 100)).toMatchObject({ state: 'live', tail: 4 });
  });

  it('goes on in a Cluster while its slot moves to another node', async () => {
    const cluster = await startRedisCluster(3);
    opened.later(() => cluster.stop());
    for (const client of [ioredisCluster(cluster.nodes), await nodeRedisCluster(cluster.nodes)]) {
      const store = await opened.store(client, { deadline: '5s' });
      await answers(store);
      const producer = new Producer(store, await won(store, request()));
      await producer.append(5);
      let stop = false;
      const work = (async () => {
        while (!stop) await producer.append(1);
      })();
      const key = `idempotency:{${producer.claim.recordKey}}`;
      const slot = keySlot(key);
      const masters = cluster.servers.map(({ url, port }) => ({ port, admin: ioredis(url) }));
      masters.forEach(({ admin }) => opened.later(() => admin.close()));
      const idOf = (at: number): Promise<unknown> => masters[at]!.admin.client.call('CLUSTER', 'MYID');
      const from = Math.floor(slot / (16_384 / 3));
      const to = (from + 1) % 3;
      const [source, target] = [masters[from]!, masters[to]!];
      const setSlot = (at: typeof source, ...how: unknown[]): Promise<unknown> =>
        at.admin.client.call('CLUSTER', 'SETSLOT', String(slot), ...how.map(String));
      await setSlot(target, 'IMPORTING', await idOf(from));
      await setSlot(source, 'MIGRATING', await idOf(to));
      const grown = async (): Promise<void> => {
        const before = producer.sent;
        await until(() => producer.sent > before + 20);
      };
      // Still at the source, and then at the target, which knows it only by ASK.
      await grown();
      await source.admin.client.call('MIGRATE', '127.0.0.1', String(target.port), key, '0', '5000');
      await grown();
      await setSlot(target, 'NODE', await idOf(to));
      await setSlot(source, 'NODE', await idOf(to));
      await grown();
      stop = true;
      await work;
      expect(producer.failures).toBe(0);
      await producer.expectAll();
    }
  }, 90_000);
});
