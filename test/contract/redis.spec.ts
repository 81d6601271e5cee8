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
import { describeContracts } from './side-by-side.js';

/** Each way to reach Redis, with two stores that have a client each, as two processes would have them. */
const CLIENTS: Record<string, () => TestClient | Promise<TestClient>> = {
  ioredis: () => ioredis(redisUrl()),
  'node-redis': () => nodeRedis(redisUrl()),
  'a pool of node-redis': () => nodeRedisPool(redisUrl()),
  'Cluster of ioredis': () => ioredisCluster(cluster.nodes),
  'createCluster of node-redis': () => nodeRedisCluster(cluster.nodes),
};

// A body of 5 MiB to five clients at once takes its time on a busy machine; deadlines have tests of their own.
const CALL_DEADLINE_MS = 10_000;

let cluster: RedisCluster;

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

describeRedis('redisStore keeps the store contract', () => {
  const clients: TestClient[] = [];
  const stores = new Map<string, IdempotencyStore[]>();

  beforeAll(async () => {
    cluster = await startRedisCluster(3);
    for (const [name, connect] of Object.entries(CLIENTS)) {
      const pair = [await connect(), await connect()];
      clients.push(...pair);
      const two = pair.map(({ client }) => redisStore({ client, deadline: CALL_DEADLINE_MS, logger: quiet }));
      stores.set(name, two);
      await Promise.all([hears(two[0]!, two[1]!), hears(two[1]!, two[0]!)]);
    }
  }, 120_000);

  afterAll(async () => {
    for (const store of [...stores.values()].flat()) await store.stop?.();
    await Promise.all(clients.map((client) => client.close()));
    await cluster?.stop();
  });

  describeContracts(
    'by each client',
    Object.keys(CLIENTS).map((name) => ({
      name,
      factory: () =>
        Promise.resolve({ store: stores.get(name)![0]!, another: () => Promise.resolve(stores.get(name)![1]!) }),
    })),
  );
});
