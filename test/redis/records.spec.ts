import { setTimeout as sleep } from 'node:timers/promises';
import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { describeRedis, redisUrl } from '../support/redis-server.js';
import { again, answer, ioredis, nodeRedis, nodeRedisPool, Opened, request } from './clients.js';

describeRedis('A record in Redis', () => {
  const opened = new Opened();
  afterEach(() => opened.end());

  const key = (recordKey: string): string => `idempotency:{${recordKey}}`;

  function raw(): Redis {
    const { client, close } = ioredis(redisUrl());
    opened.later(close);
    return client;
  }

  it('is one hash whose expiry is the retention, set at the completion', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const redis = raw();
    const first = request({ keepAbandoned: false });
    await store.claim(first);
    // Lease and retention: a live claim can never expire.
    expect(await redis.pttl(key(first.recordKey))).toBeGreaterThan(85_000);
    await store.complete(first, answer('done'), 5_000);
    const left = await redis.pttl(key(first.recordKey));
    expect(left).toBeGreaterThan(4_000);
    expect(left).toBeLessThanOrEqual(5_000);
    expect(await redis.type(key(first.recordKey))).toBe('hash');
    expect(await redis.keys(`*${first.recordKey}*`)).toEqual([key(first.recordKey)]);
  });

  it('has no expiry while it is kept until it is settled', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const redis = raw();
    const first = request();
    await store.claim(first);
    expect(await redis.pttl(key(first.recordKey))).toBe(-1);
    await store.renew(first, 1);
    await sleep(5);
    expect((await store.find(first.recordKey))?.state).toBe('abandoned');
    expect(await redis.pttl(key(first.recordKey))).toBe(-1);
    await store.resolve(first.recordKey, { kind: 'rerun' }, 9_000);
    expect(await redis.pttl(key(first.recordKey))).toBeGreaterThan(8_000);
  });

  it('is kept for ten years where that is asked', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const tenYears = 10 * 365 * 86_400_000;
    const first = request({ retentionMs: tenYears });
    await store.claim(first);
    await store.complete(first, answer('long'), tenYears);
    const found = await store.find(first.recordKey);
    expect(found!.expiresAt!.getTime() - found!.completedAt!.getTime()).toBe(tenYears);
    expect(await raw().pttl(key(first.recordKey))).toBeGreaterThan(tenYears - 60_000);
    await store.forget(first.recordKey);
  });

  it('gives fencing tokens by the clock, so that they increase after the record is gone', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const first = request();
    const tokens: number[] = [];
    for (let round = 0; round < 20; round++) {
      const result = await store.claim(again(first));
      if (result.kind !== 'claimed') throw new Error(result.kind);
      tokens.push(result.claim.fencingToken);
      await raw().del(key(first.recordKey));
    }
    expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b));
    expect(tokens.every(Number.isSafeInteger)).toBe(true);
  });

  it('gives a greater fencing token also after Redis’s clock was set back', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const first = request();
    await store.claim(first);
    const ahead = Date.now() * 1_000 + 3_600_000_000;
    await raw().hset(key(first.recordKey), 'top', ahead, 'fence', ahead);
    await store.release(first, { began: true });
    const next = await store.claim(again(first));
    expect(next).toMatchObject({ kind: 'claimed', claim: { attempt: 2, fencingToken: ahead + 1 } });
  });

  it('refuses a claim that arrives after it was undone, as on another connection of a pool', async () => {
    const store = await opened.store(nodeRedisPool(redisUrl()));
    const late = request();
    expect(await store.release(late, { began: false })).toBe('lost');
    expect(await store.claim(late)).toEqual({ kind: 'in_progress', leaseRemainingMs: 0, runningMs: 0 });
    expect(await store.find(late.recordKey)).toBeUndefined();
    // Nobody else is kept from it.
    const next = again(late);
    expect(await store.claim(next)).toMatchObject({ kind: 'claimed', claim: { attempt: 1 } });
    expect(await store.release(late, { began: false })).toBe('lost');
    expect(await store.renew(next, 30_000)).toBe('written');
    expect(await raw().pttl(key(late.recordKey))).toBe(-1);
  });

  it('answers a repeated undoing as the first one, and remembers a bounded number of them', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const first = request();
    await store.claim(first);
    expect(await store.release(first, { began: false })).toBe('written');
    expect(await store.release(first, { began: false })).toBe('written');
    for (let i = 0; i < 60; i++) await store.release(again(first), { began: false });
    const redis = raw();
    expect(await redis.hstrlen(key(first.recordKey), 'undone')).toBeLessThanOrEqual(1_024);
    expect(await redis.pttl(key(first.recordKey))).toBeGreaterThan(0);
    expect(await store.find(first.recordKey)).toBeUndefined();
    expect(await store.forget(first.recordKey)).toBe(false);
  });

  it('becomes what it was when a claim is undone, whichever that was', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const first = request();
    await store.claim(first);
    await store.release(first, { began: true });
    const released = await store.find(first.recordKey);
    for (const fingerprint of ['f1', 'f2']) {
      const next = again(first, { fingerprint });
      await store.claim(next);
      expect(await store.release(next, { began: false })).toBe('written');
      expect(await store.find(first.recordKey)).toEqual(released);
    }
    const crashed = again(first);
    await store.claim(crashed);
    await store.renew(crashed, 1);
    await sleep(5);
    const abandoned = await store.find(first.recordKey);
    expect(abandoned).toMatchObject({ state: 'abandoned', attempt: 2 });
    const taker = again(first, { takeOver: true });
    const taken = await store.claim(taker);
    expect(taken).toMatchObject({ kind: 'claimed', claim: { tookOver: true, attempt: 3 } });
    await store.release(taker, { began: false });
    expect(await store.find(first.recordKey)).toEqual(abandoned);
    const last = await store.claim(again(taker));
    if (last.kind !== 'claimed' || taken.kind !== 'claimed') throw new Error('not claimed');
    expect(last.claim.fencingToken).toBeGreaterThan(taken.claim.fencingToken);
  });

  it('does not come back when its retention ended under the claim that is undone', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const first = request({ retentionMs: 30 });
    await store.claim(first);
    await store.release(first, { began: true });
    const next = again(first);
    expect(await store.claim(next)).toMatchObject({ kind: 'claimed', claim: { attempt: 2 } });
    await sleep(40);
    expect(await store.release(next, { began: false })).toBe('written');
    expect(await store.find(first.recordKey)).toBeUndefined();
    expect(await store.claim(again(first))).toMatchObject({ kind: 'claimed', claim: { attempt: 1 } });
  });

  it('cannot be won by a claim whose key was removed in the middle, nor written by it', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const first = request();
    await store.claim(first);
    await raw().del(key(first.recordKey));
    expect(await store.renew(first, 1_000)).toBe('lost');
    const second = again(first);
    expect(await store.claim(second)).toMatchObject({ kind: 'claimed' });
    expect(await store.complete(first, answer('late'), 1_000)).toBe('lost');
    expect(await store.release(first, { began: true })).toBe('lost');
    expect(await store.abandon(first, { began: true })).toBe('lost');
    expect(await store.release(first, { began: false })).toBe('lost');
    expect(await store.complete(second, answer('mine'), 1_000)).toBe('written');
  });

  it.each([
    ['ioredis', () => ioredis(redisUrl(), { keyPrefix: 'app:' })],
    ['ioredis with automatic pipelines', () => ioredis(redisUrl(), { enableAutoPipelining: true })],
    ['node-redis, RESP 3', () => nodeRedis(redisUrl())],
    ['node-redis, RESP 2', () => nodeRedis(redisUrl(), { RESP: 2 })],
    ['a pool of node-redis', () => nodeRedisPool(redisUrl())],
  ])('keeps every byte, by %s', async (_name, client) => {
    const store = await opened.store(client());
    const first = request({ operation: 'POST /é/{id}', fingerprint: '"\\ \n\u0000', recordKey: `${randomUUID()}"'\\` });
    const body = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => (i * 31 + (i >> 8)) & 0xff));
    await store.claim(first);
    await store.complete(
      first,
      {
        kept: true,
        status: 207,
        headers: [
          ['x', 'é"\\'],
          ['x', ''],
        ],
        body,
      },
      60_000,
    );
    const result = await store.claim(again(first));
    if (result.kind !== 'completed' || result.record.answer.kept !== true) throw new Error(result.kind);
    expect(Buffer.compare(result.record.answer.body, body)).toBe(0);
    expect(result.record.answer.headers).toEqual([
      ['x', 'é"\\'],
      ['x', ''],
    ]);
    expect(result.record).toMatchObject({
      operation: first.operation,
      fingerprint: first.fingerprint,
      state: 'completed',
    });
    expect(result.remainingMs).toBeGreaterThan(50_000);
    expect(await store.forget(first.recordKey)).toBe(true);
  });

  it('keeps how a streamed answer ended and how many items it has', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const first = request();
    const streamed = {
      kept: 'stream',
      status: 200,
      headers: [['content-type', 'text/event-stream']],
      end: 'complete',
      items: 12,
    } as const;
    await store.claim(first);
    await store.complete(first, streamed, 60_000);
    expect(await store.claim(again(first))).toMatchObject({ kind: 'completed', record: { answer: streamed } });
  });

  it('is won once by 100 simultaneous claims over three clients', async () => {
    const stores = [
      await opened.store(ioredis(redisUrl())),
      await opened.store(nodeRedis(redisUrl())),
      await opened.store(nodeRedisPool(redisUrl())),
    ];
    for (let round = 0; round < 10; round++) {
      const first = request();
      const results = await Promise.all(Array.from({ length: 100 }, (_, i) => stores[i % 3]!.claim(again(first))));
      expect(results.filter(({ kind }) => kind === 'claimed')).toHaveLength(1);
      expect(results.filter(({ kind }) => kind === 'in_progress')).toHaveLength(99);
    }
  });

  it('leaves nothing to purge', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    expect(await store.purge(100)).toBe(0);
  });
});
