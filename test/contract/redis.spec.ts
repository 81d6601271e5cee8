import { describeStoreContract } from '../../lib/testing/index.js';
import { describeRedis, redisUrl, startRedisCluster, type RedisCluster } from '../support/redis-server.js';
import {
  ioredis,
  ioredisCluster,
  nodeRedis,
  nodeRedisCluster,
  nodeRedisPool,
  quiet,
  type TestClient,
} from '../redis/clients.js';
import { redisStore } from '../../lib/stores/redis/index.js';
import type { IdempotencyStore } from '../../lib/core/store.js';

type Connect = () => TestClient | Promise<TestClient>;

/** Two clients for all cases, as two processes would have them. */
function contractOf(name: string, connect: Connect): void {
  const clients: TestClient[] = [];
  beforeAll(async () => {
    clients.push(await connect(), await connect());
  });
  afterAll(() => Promise.all(clients.splice(0).map((client) => client.close())));

  describeStoreContract(name, async () => {
    const stores: IdempotencyStore[] = [];
    const open = (index: number): IdempotencyStore => {
      const store = redisStore({ client: clients[index]!.client, logger: quiet });
      stores.push(store);
      return store;
    };
    return {
      store: open(0),
      another: () => Promise.resolve(open(1)),
      clean: async () => {
        for (const store of stores.splice(0)) await store.stop?.();
      },
    };
  });
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
