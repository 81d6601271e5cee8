import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeRedis, redisUrl } from '../support/redis-server.js';
import { again, answer, ioredis, nodeRedis, nodeRedisPool, Opened, request, won } from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

const bytes = (text: string): Buffer => Buffer.from(text);

describeRedis('Finished steps in Redis', () => {
  it.each([
    ['ioredis', () => ioredis(redisUrl())],
    ['ioredis with automatic pipelines', () => ioredis(redisUrl(), { enableAutoPipelining: true })],
    ['node-redis, RESP 3', () => nodeRedis(redisUrl())],
    ['node-redis, RESP 2', () => nodeRedis(redisUrl(), { RESP: 2 })],
    ['a pool of node-redis', () => nodeRedisPool(redisUrl())],
  ])('keep every name and byte, by %s', async (_name, client) => {
    const store = await opened.store(client());
    const claim = await won(store, request());
    const steps = new Map<string, Buffer>([
      ['', bytes('')],
      ['é "\\\n\u0000', randomBytes(5_000)],
      // Names of the record's own fields, and of the log's.
      ...['state', 'body', 'i1', 'n1', 's:x', 'steps', '__proto__'].map((name) => [name, randomBytes(9)] as const),
    ]);
    for (const [name, result] of steps) expect(await store.steps!.save(claim, name, result, 30_000)).toBe('written');
    const loaded = await store.steps!.load(claim);
    expect([...loaded].map(([name, result]) => [name, Buffer.from(result)])).toEqual([...steps]);
    expect(await store.find(claim.recordKey)).toMatchObject({ state: 'in_progress', operation: 'POST /charges' });
  });

  it('keep the first result of a name, and set the lease each time', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const claim = await won(store, request());
    await store.steps!.save(claim, 'a', bytes('first'), 30_000);
    expect(await store.steps!.save(claim, 'a', bytes('second'), 90_000)).toBe('written');
    expect(await store.steps!.load(claim)).toEqual(new Map([['a', bytes('first')]]));
    const { leaseUntil } = (await store.find(claim.recordKey))!;
    expect(leaseUntil.getTime() - Date.now()).toBeGreaterThan(60_000);
  });

  it('are kept over a release, a crash and an undone claim, and not for another record', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const asked = request({ takeOver: true });
    const first = await won(store, asked);
    await store.steps!.save(first, 'a', bytes('1'), 30_000);
    await store.release(first, { began: true });
    const second = await won(store, again(asked));
    await store.steps!.save(second, 'b', bytes('2'), 5);
    await sleep(10);
    expect(await store.steps!.load(second)).toEqual(new Map());
    expect(await store.steps!.save(second, 'c', bytes('3'), 30_000)).toBe('lost');
    const third = await won(store, again(asked));
    const both = new Map([
      ['a', bytes('1')],
      ['b', bytes('2')],
    ]);
    expect(await store.steps!.load(third)).toEqual(both);
    await store.release(third, { began: true });

    // Another payload: a new record, which knows of no steps, nor does it lose those of the old one when undone.
    const other = await won(store, again(asked, { fingerprint: 'f2' }));
    expect(await store.steps!.load(other)).toEqual(new Map());
    await store.release(other, { began: false });
    const fourth = await won(store, again(asked));
    expect(await store.steps!.load(fourth)).toEqual(both);
    await store.release(fourth, { began: true });

    const fresh = await won(store, again(asked, { fingerprint: 'f2' }));
    await store.steps!.save(fresh, 'b', bytes('new'), 30_000);
    expect(await store.steps!.load(fresh)).toEqual(new Map([['b', bytes('new')]]));
    await store.release(fresh, { began: true });
    const last = await won(store, again(asked, { fingerprint: 'f1' }));
    expect(await store.steps!.load(last)).toEqual(new Map());
  });

  it('go with their record', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const asked = request();
    const claim = await won(store, asked);
    for (let i = 0; i < 1_000; i++) await store.steps!.save(claim, `step ${i}`, bytes(String(i)), 30_000);
    expect((await store.steps!.load(claim)).size).toBe(1_000);
    await store.complete(claim, answer('done'), 60_000);
    expect(await store.steps!.load(claim)).toEqual(new Map());
    await store.forget(asked.recordKey);
    expect(await store.steps!.load(await won(store, again(asked)))).toEqual(new Map());
  });
});
