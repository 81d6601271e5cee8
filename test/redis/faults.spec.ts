import type { ClaimResult, IdempotencyStore } from '../../lib/core/store.js';
import { IdempotencyStoreError } from '../../lib/core/errors.js';
import { describeRedis, startRedis, type RedisServer } from '../support/redis-server.js';
import { startProxy } from '../support/tcp-proxy.js';
import {
  again,
  answer,
  ioredis,
  nodeRedis,
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

const clients: [name: string, connect: (url: string) => TestClient | Promise<TestClient>][] = [
  ['ioredis', (url) => ioredis(url)],
  ['ioredis that queues for ever', (url) => ioredis(url, { maxRetriesPerRequest: null })],
  ['node-redis', (url) => nodeRedis(url)],
  ['a pool of node-redis', (url) => nodeRedisPool(url)],
];

/** Every call of the port that asks the server. */
const calls: Record<string, (store: IdempotencyStore) => Promise<unknown>> = {
  claim: (store) => store.claim(request()),
  renew: (store) => store.renew(request(), 1_000),
  complete: (store) => store.complete(request(), answer('x'), 1_000),
  release: (store) => store.release(request(), { began: true }),
  abandon: (store) => store.abandon(request(), { began: true }),
  find: (store) => store.find('some-key'),
  resolve: (store) => store.resolve('some-key', { kind: 'rerun' }, 1_000),
  forget: (store) => store.forget('some-key'),
};

describeRedis('A Redis store in trouble', () => {
  it.each(clients)(
    'answers within its deadline while Redis is frozen, and recovers by itself: %s',
    async (_name, connect) => {
      const redis = await server();
      const store = await opened.store(connect(redis.url), { deadline: '300ms' });
      const running = request();
      await store.claim(running);
      redis.pause();
      const started = performance.now();
      const late = request();
      const failures = await Promise.all(
        [...Object.values(calls).map((call) => call(store)), store.claim(late)].map((call) =>
          call.then(
            () => undefined,
            (error: unknown) => ({ error, after: performance.now() - started }),
          ),
        ),
      );
      for (const failed of failures) {
        expect(failed?.error).toBeInstanceOf(IdempotencyStoreError);
        expect(failed?.after).toBeLessThan(400);
      }
      // What the engine does with a claim whose outcome it does not know.
      const undone = store.release(late, { began: false }).catch(() => 'late');
      expect(await undone).toBe('late');
      redis.resume();
      await until(() =>
        store.renew(running, 30_000).then(
          (said) => said === 'written',
          () => false,
        ),
      );
      expect(await store.find(late.recordKey)).toBeUndefined();
      expect(await store.complete(running, answer('done'), 60_000)).toBe('written');
      expect(await store.claim(again(late))).toMatchObject({ kind: 'claimed', claim: { attempt: 1 } });
    },
  );

  it.each(clients)('goes on after SCRIPT FLUSH and a restart that forgot its scripts: %s', async (_name, connect) => {
    const redis = await server('--appendfsync', 'always');
    const store = await opened.store(connect(redis.url), { deadline: '5s' });
    const admin = ioredis(redis.url);
    opened.later(() => admin.close());
    const first = request();
    await store.claim(first);
    await admin.client.script('FLUSH');
    expect(await store.claim(again(first))).toMatchObject({ kind: 'in_progress' });
    expect(await store.complete(first, answer('done'), 60_000)).toBe('written');
    await admin.client.script('FLUSH');
    const results = await Promise.all(Array.from({ length: 50 }, () => store.claim(again(first))));
    expect(results.every(({ kind }) => kind === 'completed')).toBe(true);
    await redis.restart();
    await until(() =>
      store.claim(again(first)).then(
        (said) => said.kind === 'completed',
        () => false,
      ),
    );
  });

  it('has every acknowledged claim after kill -9 with appendfsync always', async () => {
    const redis = await server('--appendfsync', 'always');
    const store = await opened.store(ioredis(redis.url), { deadline: '500ms' });
    const won: string[] = [];
    let stop = false;
    const work = Array.from({ length: 8 }, async () => {
      while (!stop) {
        const next = request();
        const result = await store.claim(next).catch(() => undefined);
        if (result?.kind === 'claimed') won.push(next.recordKey);
      }
    });
    await until(() => won.length > 500);
    await redis.kill();
    stop = true;
    await Promise.all(work);
    await redis.restart();
    await until(() =>
      store.find('x').then(
        () => true,
        () => false,
      ),
    );
    const found = await Promise.all(won.map((recordKey) => store.find(recordKey)));
    expect(found.filter((record) => record?.state !== 'in_progress')).toEqual([]);
  });

  it('lets 20 of 20 claims whose reply was cut off find themselves, as ioredis resends them', async () => {
    const redis = await server();
    const proxy = await startProxy(redis.port);
    opened.later(() => proxy.close());
    const { client, close } = ioredis(`redis://127.0.0.1:${proxy.port}`);
    const store = await opened.store({ client, close }, { deadline: '10s' });
    await store.claim(request());
    const results: ClaimResult[] = [];
    for (let round = 0; round < 20; round++) {
      await until(() => client.status === 'ready');
      const mine = request();
      proxy.dropReplies(1);
      results.push(await store.claim(mine));
      // The resent answer to a settled claim is the same as the first one would have been.
      await until(() => client.status === 'ready');
      proxy.dropReplies(1);
      expect(await store.complete(mine, answer('once'), 60_000)).toBe('written');
    }
    expect(results.filter(({ kind }) => kind === 'claimed')).toHaveLength(20);
  }, 60_000);

  it('undoes 20 of 20 claims of node-redis whose reply was cut off, and gives no claim away twice', async () => {
    const redis = await server();
    const proxy = await startProxy(redis.port);
    opened.later(() => proxy.close());
    const store = await opened.store(nodeRedis(`redis://127.0.0.1:${proxy.port}`), { deadline: '2s' });
    await store.claim(request());
    await store.release(request(), { began: false });
    let undone = 0;
    for (let round = 0; round < 20; round++) {
      await until(() =>
        store.find('x').then(
          () => true,
          () => false,
        ),
      );
      const mine = request();
      proxy.dropReplies(1);
      await expect(store.claim(mine)).rejects.toBeInstanceOf(IdempotencyStoreError);
      await until(() =>
        store.release(mine, { began: false }).then(
          (said) => said === 'written',
          () => false,
        ),
      );
      undone++;
      expect(await store.find(mine.recordKey)).toBeUndefined();
    }
    expect(undone).toBe(20);
  }, 60_000);

  it('says out of memory where Redis is full, and repeats no body in the message', async () => {
    const redis = await server('--maxmemory', '2mb', '--maxmemory-policy', 'noeviction');
    const store = await opened.store(ioredis(redis.url));
    const first = request();
    await store.claim(first);
    const big = { ...answer(''), body: Buffer.alloc(3_000_000, 'secret') };
    const error = await store.complete(first, big, 60_000).then(
      () => undefined,
      (e: unknown) => e as Error,
    );
    expect(error).toBeInstanceOf(IdempotencyStoreError);
    expect(error?.message).toMatch(/OOM/);
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('secret');
  });
});
