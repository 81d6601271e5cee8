import { randomBytes } from 'node:crypto';
import { describeRedis, redisUrl } from '../support/redis-server.js';
import { again, allItems, ioredis, Opened, request, streamHead as head, won } from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

describeRedis('A long stream in Redis', () => {
  it('of 50,000 items and 10 MiB is written and read at speed, and goes away whole', async () => {
    const store = await opened.store(ioredis(redisUrl()), { deadline: '5s' });
    const { client: redis, close } = ioredis(redisUrl());
    opened.later(close);
    const asked = request();
    const key = `idempotency:{${asked.recordKey}}`;
    const claim = await won(store, asked);
    const batch = Array.from({ length: 50 }, () => randomBytes(210));
    const started = performance.now();
    for (let firstSeq = 1; firstSeq <= 50_000; firstSeq += 50) {
      const said = await store.events!.append(
        claim,
        { firstSeq, items: batch, ...(firstSeq === 1 ? { head } : {}) },
        60_000,
      );
      if (said !== 'written') throw new Error(said);
    }
    const written = performance.now() - started;
    const read = await allItems(store, claim, 256 * 1024);
    const seconds = (performance.now() - started) / 1_000;
    console.info(
      `1,000 appends of 50 items: ${written.toFixed(0)} ms; 50,000 items read: ${(seconds * 1_000 - written).toFixed(0)} ms; ` +
        `${String(await redis.memory('USAGE', key, 'SAMPLES', 0))} bytes in Redis`,
    );
    expect(read.items).toHaveLength(50_000);
    expect(read.items.every((bytes, i) => Buffer.compare(bytes, batch[i % 50]!) === 0)).toBe(true);
    expect(seconds).toBeLessThan(25);
    // The largest step of all: the next attempt's first append removes the whole log.
    await store.release(claim, { began: true });
    const next = await won(store, again(asked));
    const before = performance.now();
    await store.events!.append(next, { firstSeq: 1, items: [Buffer.from('n')], head }, 60_000);
    expect(performance.now() - before).toBeLessThan(1_000);
    expect(await redis.hlen(key)).toBeLessThan(30);
    await store.abandon(next, { began: true });
    await store.forget(next.recordKey);
  }, 60_000);

  it('takes 50,000 items in one batch, and gives them in pages that hold Redis up only shortly', async () => {
    const store = await opened.store(ioredis(redisUrl()), { deadline: '5s' });
    const claim = await won(store, request());
    const all = Array.from({ length: 50_000 }, (_, i) => Buffer.from(`item ${i}`));
    expect(await store.events!.append(claim, { firstSeq: 1, items: all, head }, 60_000)).toBe('written');
    const first = await store.events!.read(claim, 0, Infinity);
    expect(first!.items.length).toBeLessThanOrEqual(5_000);
    expect((await allItems(store, claim, Infinity)).items).toEqual(all);
    await store.abandon(claim, { began: true });
    await store.forget(claim.recordKey);
  });
});
