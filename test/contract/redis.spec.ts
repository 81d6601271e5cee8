import { describeStoreContract } from '../../lib/testing/index.js';
import { describeRedis, redisUrl, startRedisCluster, type RedisCluster } from '../support/redis-server.js';
import {
  ioredis,
  ioredisCluster,
  nodeRedis,
  nodeRedisCluster,
  nodeRedisPool,
  quiet,
  request,
  until,
  type TestClient,
} from '../redis/clients.js';
import { redisStore } from '../../lib/stores/redis/index.js';
import type { IdempotencyStore } from '../../lib/core/store.js';

type Connect = () => TestClient | Promise<TestClient>;

/** Two stores with a client each, as two processes would have them; one pair for all cases. */
function contractOf(name: string, connect: Connect): void {
  const clients: TestClient[] = [];
  const stores: IdempotencyStore[] = [];
  beforeAll(async () => {
    for (const _ of ['one', 'two']) {
      const opened = await connect();
      clients.push(opened);
      stores.push(redisStore({ client: opened.client, logger: quiet }));
    }
    await Promise.all([hears(stores[0]!, stores[1]!), hears(stores[1]!, stores[0]!)]);
  }, 60_000);
  afterAll(async () => {
    for (const store of stores.splice(0)) await store.stop?.();
    await Promise.all(clients.splice(0).map((client) => client.close()));
  });

  describeStoreContract(name, () => {
    return Promise.resolve({ store: stores[0]!, another: () => Promise.resolve(stores[1]!) });
  });
}

/** Waits until hints come through: how long a client takes to subscribe is not what the cases are about. */
async function hears(store: IdempotencyStore, other: IdempotencyStore): Promise<void> {
  let woken = false;
  const end = store.subscribe!('warm-up', () => (woken = true));
  await until(async () => {
    const claim = request({ recordKey: 'warm-up' });
    await other.claim(claim).catch(() => undefined);
    await other.release(claim, { began: false }).catch(() => undefined);
    return woken;
  }, 30_000);
  end();
}

describeRedis('One Redis', () => {
  describe('by ioredis', () => contractOf('redisStore with ioredis', () => ioredis(redisUrl())));
  describe('by node-redis', () => contractOf('redisStore with node-redis', () => nodeRedis(redisUrl())));
  describe('by a pool of node-redis', () => contractOf('redisStore with a pool', () => nodeRedisPool(redisUrl())));
});

describeRedis('A Redis Cluster of three', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await startRedisCluster(3);
  }, 60_000);
  afterAll(() => cluster?.stop());

  describe('by ioredis', () => contractOf('redisStore with Cluster of ioredis', () => ioredisCluster(cluster.nodes)));
  describe('by node-redis', () =>
    contractOf('redisStore with createCluster of node-redis', () => nodeRedisCluster(cluster.nodes)));
});
