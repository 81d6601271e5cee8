import { IdempotencyConfigError, IdempotencyStoreError } from '../../lib/core/errors.js';
import { redisStore, type RedisStoreClient } from '../../lib/stores/redis/index.js';
import { describeRedis, redisUrl, startRedis, startRedisCluster, type RedisServer } from '../support/redis-server.js';
import { startProxy } from '../support/tcp-proxy.js';
import { freePort } from '../../sample-app/src/embedded-postgres.js';
import { createClient } from 'redis';
import { ioredis, ioredisCluster, nodeRedis, nodeRedisCluster, nodeRedisPool, Opened } from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

async function failure(work: Promise<unknown> | undefined): Promise<Error> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('It did not fail.');
}

function warnings(): { warn(message: string): void; readonly said: string[] } {
  const said: string[] = [];
  return { said, warn: (message) => said.push(message) };
}

describe('What is given to redisStore', () => {
  it.each([
    ['nothing', undefined],
    ['a URL', 'redis://localhost'],
    ['options', { host: 'localhost', port: 6379 }],
    ['a class', Date],
    ['a mock', { get: (): null => null, set: () => 'OK' }],
    [
      'node-redis 4, which cannot give Buffers by type',
      { sendCommand: (): null => null, duplicate: (): null => null, isOpen: true, on: (): null => null },
    ],
    [
      'an unknown kind of node-redis',
      { sendCommand: (): null => null, withTypeMapping: (): null => null, isOpen: true, on: (): null => null },
    ],
  ])('is refused at once where it is %s', (_name, client) => {
    const make = (): unknown => redisStore({ client: client as unknown as RedisStoreClient });
    expect(make).toThrow(IdempotencyConfigError);
    expect(make).toThrow(/createClient/);
  });

  it('is refused where an option is wrong, by name', async () => {
    const { client, close } = ioredis('redis://127.0.0.1:1', { lazyConnect: true });
    opened.later(close);
    expect(() => redisStore({ client, prefix: 'a{b}' })).toThrow(/prefix/);
    expect(() => redisStore({ client, prefix: '' })).toThrow(/prefix/);
    expect(() => redisStore({ client, deadline: '1 second' as '1s' })).toThrow(/deadline/);
    expect(() => redisStore({ client, minReplicas: -1 })).toThrow(/minReplicas/);
    expect(() => redisStore({ client, minReplicas: 1, replicaTimeout: '2s' })).toThrow(/replicaTimeout/);
    expect(() => redisStore({ client, subscriber: {} as RedisStoreClient })).toThrow(/subscriber/);
    expect(() => redisStore(undefined as never)).toThrow(/redisStore\(\{ client \}\)/);
  });

  it('is found out at the start where it is a mock with the right methods', async () => {
    const client = {
      status: 'ready',
      options: {},
      on: () => undefined,
      off: () => undefined,
      duplicate: () => undefined,
      call: () => Promise.resolve('OK'),
      callBuffer: () => Promise.resolve('OK'),
    };
    const error = await failure(redisStore({ client }).start?.());
    expect(error).toBeInstanceOf(IdempotencyConfigError);
    expect(error.message).toMatch(/real client.*not a mock/s);
  });
});

describeRedis('The start of a Redis store', () => {
  async function server(...args: string[]): Promise<RedisServer> {
    const started = await startRedis({ args });
    opened.later(() => started.stop());
    return started;
  }

  /** The URL of a user with these rights. */
  async function userOf(started: RedisServer, rights: string): Promise<string> {
    const admin = ioredis(started.url);
    await admin.client.call('ACL', ['SETUSER', 'app', 'on', '>pw', ...rights.split(' ')]);
    await admin.close();
    return started.url.replace('//', '//app:pw@');
  }

  it('passes on a Redis that keeps what it is given, and leaves nothing behind', async () => {
    const { url } = await server();
    const logger = warnings();
    for (const client of [ioredis(url), await nodeRedis(url), await nodeRedisPool(url)]) {
      const store = await opened.store(client, { strict: true, logger });
      await store.start?.();
    }
    expect(logger.said).toEqual([]);
    const { client, close } = ioredis(url);
    opened.later(close);
    expect(await client.dbsize()).toBe(0);
  });

  it('is a store that is away where the connection breaks, at whatever question', async () => {
    const started = await server();
    const proxy = await startProxy(Number(new URL(started.url).port));
    opened.later(() => proxy.close());
    const store = await opened.store(nodeRedis(`redis://127.0.0.1:${proxy.port}`));
    // The next one is not asked by way of the store.
    const find = store.find.bind(store);
    store.find = async (recordKey) => {
      const found = await find(recordKey);
      proxy.dropReplies(1);
      return found;
    };
    // With `lazy` this is what an application boots in spite of; any other error ends it.
    expect(await failure(store.start?.())).toBeInstanceOf(IdempotencyStoreError);
  });

  it.each([
    ['appendonly no', ['--appendonly', 'no'], /appendonly no.*Set appendonly yes/s],
    ['allkeys-lru', ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'], /allkeys-lru.*noeviction/s],
    ['volatile-ttl', ['--maxmemory', '100mb', '--maxmemory-policy', 'volatile-ttl'], /volatile-ttl.*noeviction/s],
    ['a forbidden INFO', ['--rename-command', 'INFO', ''], /cannot be checked/],
  ])('warns of %s, and refuses it with strict', async (_name, args, message) => {
    // Without the ready check, which itself asks INFO.
    const { url } = await server(...args);
    const client = ioredis(url, { enableReadyCheck: false });
    const logger = warnings();
    await (await opened.store(client, { logger })).start?.();
    expect(logger.said).toHaveLength(1);
    expect(logger.said[0]).toMatch(message);
    expect(logger.said[0]).toContain(`127.0.0.1:${url.split(':').at(-1)}`);
    const error = await failure((await opened.store(client, { strict: true })).start?.());
    expect(error).toBeInstanceOf(IdempotencyConfigError);
    expect(error.message).toMatch(message);
  });

  it('does not warn of a policy that has no memory limit to act on', async () => {
    const { url } = await server('--maxmemory-policy', 'allkeys-lru');
    await (await opened.store(nodeRedis(url), { strict: true })).start?.();
  });

  it('is refused without scripting: renamed, or denied by the ACL', async () => {
    const renamed = await server('--rename-command', 'EVAL', '', '--rename-command', 'EVALSHA', '');
    const denied = await userOf(await server(), '~* &* +@all -@scripting');
    const inside = await userOf(await server(), '~* &* +@all -hset');
    for (const client of [ioredis(renamed.url), ioredis(denied), await nodeRedis(denied), ioredis(inside)]) {
      const error = await failure((await opened.store(client)).start?.());
      expect(error).toBeInstanceOf(IdempotencyConfigError);
      expect(error.message).toMatch(/Allow EVALSHA and EVAL/);
    }
  });

  it('is refused where the user may not have the keys, and passes without the right to publish', async () => {
    const other = await userOf(await server(), '~other:* &* +@all');
    const noChannel = await userOf(await server(), '~idempotency:* resetchannels +@all');
    const error = await failure((await opened.store(ioredis(other))).start?.());
    expect(error).toBeInstanceOf(IdempotencyConfigError);
    expect(error.message).toMatch(/~idempotency:\*/);
    await (await opened.store(ioredis(noChannel), { strict: true })).start?.();
  });

  it('is refused by a read-only replica', async () => {
    const primary = await server();
    const replica = await server('--replicaof', '127.0.0.1', String(primary.port));
    for (const client of [ioredis(replica.url), await nodeRedis(replica.url)]) {
      const error = await failure((await opened.store(client)).start?.());
      expect(error).toBeInstanceOf(IdempotencyConfigError);
      expect(error.message).toMatch(/read-only replica/);
    }
  });

  it('is refused with a wrong password or none, which no message repeats', async () => {
    const { url, port } = await server();
    const admin = ioredis(url);
    await admin.client.config('SET', 'requirepass', 'correct-horse');
    await admin.close();
    const wrong = `redis://:battery-staple@127.0.0.1:${port}`;
    const unconnected = createClient({ url: wrong });
    unconnected.on('error', () => undefined);
    unconnected.connect().catch(() => undefined);
    opened.later(() => unconnected.isOpen && unconnected.destroy());
    const clients = [ioredis(url), ioredis(wrong), { client: unconnected, close: () => undefined }];
    for (const client of clients) {
      const error = await failure((await opened.store(client)).start?.());
      expect(error).toBeInstanceOf(IdempotencyConfigError);
      expect(error.message).toMatch(/credentials/);
      expect(`${error.message}${String(error.stack)}${String(error.cause)}`).not.toMatch(
        /battery-staple|correct-horse/,
      );
    }
  });

  it('says that a client of node-redis has to be connected first', async () => {
    const client = createClient({ url: redisUrl() });
    const error = await failure(redisStore({ client }).start?.());
    expect(error).toBeInstanceOf(IdempotencyConfigError);
    expect(error.message).toMatch(/await client\.connect\(\)/);
  });

  it('fails within its deadline where the server is down, and names the server but no password', async () => {
    const port = await freePort();
    const started = performance.now();
    const url = `redis://:battery-staple@127.0.0.1:${port}`;
    const unconnected = createClient({ url });
    unconnected.on('error', () => undefined);
    unconnected.connect().catch(() => undefined);
    opened.later(() => unconnected.destroy());
    for (const client of [ioredis(url), { client: unconnected, close: () => undefined }]) {
      const error = await failure((await opened.store(client, { deadline: '300ms' })).start?.());
      expect(error).toBeInstanceOf(IdempotencyStoreError);
      expect(error.message).toContain(`127.0.0.1:${port}`);
      expect(error.message).toMatch(/ECONNREFUSED|deadline/);
      expect(error.message).not.toContain('battery-staple');
    }
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  describe('on a Cluster', () => {
    it('checks each node, and refuses a client of one node', async () => {
      const cluster = await startRedisCluster(3);
      opened.later(() => cluster.stop());
      const { client, close } = ioredis(`redis://127.0.0.1:${cluster.nodes[1]!.port}`);
      opened.later(close);
      await client.call('CONFIG', 'SET', 'appendonly', 'no');
      for (const one of [ioredisCluster(cluster.nodes), await nodeRedisCluster(cluster.nodes)]) {
        const logger = warnings();
        await (await opened.store(one, { logger })).start?.();
        expect(logger.said).toHaveLength(1);
        expect(logger.said[0]).toContain(`127.0.0.1:${cluster.nodes[1]!.port}`);
      }
      // One key in three is of this node; a start whose probe happens to be is no error.
      let error: Error | undefined;
      for (let tries = 0; tries < 40 && !error; tries++) {
        error = await (await opened.store({ client, close: () => undefined })).start?.().then(
          () => undefined,
          (e: Error) => e,
        );
      }
      expect(error).toBeInstanceOf(IdempotencyConfigError);
      expect(error?.message).toMatch(/node of a cluster.*new Cluster/s);
    }, 60_000);
  });
});
