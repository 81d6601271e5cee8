import { IdempotencyConfigError, IdempotencyStoreError } from '../../lib/core/errors.js';
import { Cluster } from 'ioredis';
import { redisStore } from '../../lib/stores/redis/index.js';
import { describeRedis, startRedis, startRedisCluster, type RedisServer } from '../support/redis-server.js';
import { startProxy } from '../support/tcp-proxy.js';
import {
  again,
  ioredis,
  ioredisCluster,
  nodeRedis,
  nodeRedisCluster,
  nodeRedisPool,
  Opened,
  request,
  until,
  type TestClient,
} from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

async function server(...args: string[]): Promise<RedisServer> {
  const started = await startRedis({ args });
  opened.later(() => started.stop());
  return started;
}

const kinds: [name: string, connect: (url: string) => TestClient | Promise<TestClient>][] = [
  ['ioredis', (url) => ioredis(url)],
  ['node-redis', (url) => nodeRedis(url)],
  ['a pool of node-redis', (url) => nodeRedisPool(url)],
];

describeRedis('minReplicas', () => {
  it.each(kinds)(
    'wins claims while the replica has them, and undoes them while it has not: %s',
    async (_name, connect) => {
      const primary = await server();
      const proxy = await startProxy(primary.port);
      opened.later(() => proxy.close());
      const replica = await server('--replicaof', '127.0.0.1', String(proxy.port));
      const admin = ioredis(replica.url);
      opened.later(() => admin.close());
      await until(async () => (await admin.client.info('replication')).includes('master_link_status:up'));
      const store = await opened.store(connect(primary.url), { minReplicas: 1, replicaTimeout: '300ms' });
      await store.start?.();

      const first = request();
      expect(await store.claim(first)).toMatchObject({ kind: 'claimed' });
      expect(await admin.client.hget(`idempotency:{${first.recordKey}}`, 'state')).toBe('in_progress');
      expect(await store.claim(first)).toMatchObject({ kind: 'claimed', claim: { attempt: 1 } });
      expect(await store.claim(again(first))).toMatchObject({ kind: 'in_progress' });

      proxy.blackhole(true);
      const refused = request();
      const error = await store.claim(refused).catch((e: unknown) => e as Error);
      expect(error).toBeInstanceOf(IdempotencyStoreError);
      expect((error as Error).message).toMatch(/0 of the 1 replicas.*300 ms/);
      expect(await store.find(refused.recordKey)).toBeUndefined();
      proxy.blackhole(false);
      await until(
        () =>
          store.claim(again(refused)).then(
            ({ kind }) => kind === 'claimed',
            () => false,
          ),
        20_000,
      );
    },
    60_000,
  );

  it.each(kinds)('wins nothing where there is no replica, and says so at the start: %s', async (_name, connect) => {
    const { url } = await server();
    const store = await opened.store(connect(url), { minReplicas: 1, replicaTimeout: 50 });
    await expect(store.claim(request())).rejects.toThrow(/0 of the 1 replicas/);
    await expect(store.start?.()).rejects.toThrow(IdempotencyStoreError);
  });

  it('asks the node of the record in a Cluster', async () => {
    const cluster = await startRedisCluster(3);
    opened.later(() => cluster.stop());
    const withReplica = cluster.servers[0]!;
    const replica = await server('--cluster-enabled', 'yes', '--cluster-port', String(await freeBusPort()));
    const admin = ioredis(replica.url);
    opened.later(() => admin.close());
    const master = ioredis(withReplica.url);
    opened.later(() => master.close());
    const id = String(await master.client.call('CLUSTER', 'MYID'));
    const busOf = /@(\d+)/.exec(
      String(await master.client.call('CLUSTER', 'NODES'))
        .split('\n')
        .find((line) => line.includes('myself'))!,
    )![1]!;
    await admin.client.call('CLUSTER', 'MEET', '127.0.0.1', withReplica.port, busOf);
    await until(
      () =>
        admin.client.call('CLUSTER', 'REPLICATE', id).then(
          () => true,
          () => false,
        ),
      20_000,
    );
    await until(async () => (await admin.client.info('replication')).includes('master_link_status:up'), 20_000);

    for (const client of [ioredisCluster(cluster.nodes), await nodeRedisCluster(cluster.nodes)]) {
      const store = await opened.store(client, { minReplicas: 1, replicaTimeout: 100 });
      await until(() =>
        store.find('x').then(
          () => true,
          () => false,
        ),
      );
      let [won, refused] = [0, 0];
      for (let i = 0; i < 30; i++) {
        const next = request();
        const slot = Number(await master.client.call('CLUSTER', 'KEYSLOT', `idempotency:{${next.recordKey}}`));
        const has = slot < Math.floor(16_384 / 3);
        const said = await store.claim(next).then(
          ({ kind }) => kind,
          (error: Error) => error.message,
        );
        if (has) expect(said).toBe('claimed');
        else expect(said).toMatch(/0 of the 1 replicas/);
        if (has) won++;
        else refused++;
      }
      expect(won).toBeGreaterThan(0);
      expect(refused).toBeGreaterThan(0);
    }
  }, 90_000);

  it('is refused where the client cannot keep it', () => {
    const client = new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true, keyPrefix: 'app:' });
    opened.later(() => client.disconnect());
    expect(() => redisStore({ client, minReplicas: 1 })).toThrow(IdempotencyConfigError);
    expect(() => redisStore({ client, minReplicas: 1 })).toThrow(/keyPrefix/);
  });
});

async function freeBusPort(): Promise<number> {
  const { freePort } = await import('../../sample-app/src/embedded-postgres.js');
  return freePort();
}
