import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Claim, StreamedAnswer } from '../../lib/core/record.js';
import type { ClaimRequest, IdempotencyStore } from '../../lib/core/store.js';
import { describeRedis, redisUrl } from '../support/redis-server.js';
import {
  again,
  allItems,
  answer,
  ioredis,
  nodeRedis,
  nodeRedisPool,
  Opened,
  request,
  streamHead as head,
  won,
} from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

const key = (recordKey: string): string => `idempotency:{${recordKey}}`;
const items = (...texts: string[]): Buffer[] => texts.map((text) => Buffer.from(text));
const ended: StreamedAnswer = { kept: 'stream', ...head, end: 'complete', items: 2 };

function raw(): Redis {
  const { client, close } = ioredis(redisUrl());
  opened.later(close);
  return client;
}

/** A claim that has streamed `a` and `b`. */
async function streaming(store: IdempotencyStore, asked: ClaimRequest): Promise<Claim> {
  const claim = await won(store, asked);
  expect(await store.events!.append(claim, { firstSeq: 1, items: items('a', 'b'), head }, 30_000)).toBe('written');
  return claim;
}

describeRedis('A stream in Redis', () => {
  it.each([
    ['ioredis', () => ioredis(redisUrl())],
    ['ioredis with a keyPrefix', () => ioredis(redisUrl(), { keyPrefix: 'app:' })],
    ['ioredis with automatic pipelines', () => ioredis(redisUrl(), { enableAutoPipelining: true })],
    ['node-redis, RESP 3', () => nodeRedis(redisUrl())],
    ['node-redis, RESP 2', () => nodeRedis(redisUrl(), { RESP: 2 })],
    ['a pool of node-redis', () => nodeRedisPool(redisUrl())],
  ])('keeps every byte of every item, by %s', async (_name, client) => {
    const store = await opened.store(client());
    const claim = await won(store, request());
    const all = Array.from({ length: 300 }, (_, i) => randomBytes((i * 37) % 900));
    all.push(Buffer.alloc(0), Buffer.from(Array.from({ length: 256 }, (_, i) => i)), Buffer.from('"\\\r\n\u0000é'));
    // A view of a larger buffer, as a chunk of a socket is.
    all.push(Buffer.from('xxyyxx').subarray(2, 4));
    for (let at = 0; at < all.length; at += 50) {
      const batch = { firstSeq: at + 1, items: all.slice(at, at + 50), ...(at === 0 ? { head } : {}) };
      expect(await store.events!.append(claim, batch, 30_000)).toBe('written');
    }
    for (const maxBytes of [1, 2_000, 1e9, Infinity]) {
      const read = await allItems(store, claim, maxBytes);
      expect(read.head).toEqual(head);
      expect(read.items).toHaveLength(all.length);
      expect(read.items.every((bytes, i) => Buffer.compare(bytes, all[i]!) === 0)).toBe(true);
    }
    expect(await store.find(claim.recordKey)).toMatchObject({ state: 'in_progress', stream: head });
    expect(await store.events!.read(claim, 0, 0)).toMatchObject({
      state: 'live',
      tail: all.length,
      items: [{ seq: 1 }],
    });
    const past = await store.events!.read(claim, all.length + 5, 100);
    expect(past).toMatchObject({ tail: all.length, items: [] });
    expect(past!.leaseRemainingMs).toBeGreaterThan(20_000);
  });

  it('is in the hash of its record, and so can neither expire before it nor outlive it', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const redis = raw();
    for (const keepAbandoned of [true, false]) {
      const claim = await streaming(store, request({ keepAbandoned }));
      await store.steps!.save(claim, 'fetch', Buffer.from('x'), 30_000);
      expect(await redis.keys(`*${claim.recordKey}*`)).toEqual([key(claim.recordKey)]);
      const kept = async (): Promise<number> => redis.pttl(key(claim.recordKey));
      // A live one's precaution moves with each append as with each renewal.
      await store.events!.append(claim, { firstSeq: 3, items: items('c') }, 1_000_000);
      if (keepAbandoned) expect(await kept()).toBe(-1);
      else expect(await kept()).toBeGreaterThan(1_000_000 + 59_000);
      await store.complete(claim, ended, 5_000);
      expect(await kept()).toBeGreaterThan(4_000);
      expect(await kept()).toBeLessThanOrEqual(5_000);
    }
  });

  it('goes with its record: at the end of the retention, and when it is forgotten', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const redis = raw();
    const brief = await streaming(store, request());
    await store.complete(brief, ended, 30);
    await sleep(40);
    expect(await store.events!.read(brief, 0, 100)).toBeUndefined();
    expect(await redis.exists(key(brief.recordKey))).toBe(0);
    const forgotten = await streaming(store, request());
    await store.complete(forgotten, ended, 60_000);
    expect(await store.forget(forgotten.recordKey)).toBe(true);
    expect(await store.events!.read(forgotten, 0, 100)).toBeUndefined();
    expect(await redis.exists(key(forgotten.recordKey))).toBe(0);
  });

  it('tells a claim which stream it can follow, and a reader how it ended', async () => {
    const store = await opened.store(nodeRedis(redisUrl()));
    const asked = request();
    const claim = await won(store, asked);
    expect(await store.claim(again(asked))).not.toHaveProperty('stream');
    expect(await store.events!.read(claim, 0, 100)).toBeUndefined();
    await store.events!.append(claim, { firstSeq: 1, items: items('a', 'b'), head }, 30_000);
    const { recordKey, recordId, attempt } = claim;
    const stream = { recordKey, recordId, attempt };
    expect(await store.claim(again(asked))).toMatchObject({ kind: 'in_progress', stream });
    await store.complete(claim, { ...ended, end: 'truncated' }, 60_000);
    expect(await store.events!.read(stream, 1, 100)).toMatchObject({
      state: 'ended',
      end: 'truncated',
      head,
      tail: 2,
      items: [{ seq: 2 }],
      leaseRemainingMs: 0,
    });
    expect(await store.events!.read({ ...stream, recordId: 'other' }, 0, 100)).toBeUndefined();
    expect(await store.events!.read({ ...stream, attempt: 2 }, 0, 100)).toBeUndefined();
  });

  it('that ended without an item has its head from the answer', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const claim = await won(store, request());
    await store.complete(claim, { ...ended, items: 0 }, 60_000);
    expect(await store.events!.read(claim, 0, 100)).toEqual({
      state: 'ended',
      end: 'complete',
      head,
      tail: 0,
      items: [],
      leaseRemainingMs: 0,
    });
  });

  it('that was interrupted has no end of its own when its record is settled by another answer', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const claim = await streaming(store, request());
    await store.abandon(claim, { began: true });
    expect(await store.events!.read(claim, 0, 100)).toMatchObject({ state: 'interrupted', tail: 2 });
    expect(await store.find(claim.recordKey)).toMatchObject({ state: 'abandoned', stream: head });
    await store.resolve(claim.recordKey, { kind: 'completed', answer: answer('by hand') }, 60_000);
    const page = await store.events!.read(claim, 0, 100);
    expect(page).toMatchObject({ state: 'ended', tail: 2 });
    expect(page).not.toHaveProperty('end');
  });

  it('takes a repeated batch once, sets its lease again, and refuses gaps and overlaps', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const claim = await streaming(store, request());
    const before = await raw().hgetall(key(claim.recordKey));
    const append = (firstSeq: number, texts: string[], withHead = false) =>
      store.events!.append(claim, { firstSeq, items: items(...texts), ...(withHead ? { head } : {}) }, 90_000);
    expect(await append(4, ['d'])).toBe('lost');
    expect(await append(2, ['b', 'c'])).toBe('lost');
    expect(await append(1, ['a'], true)).toBe('lost');
    expect(await append(3, ['c'], true)).toBe('lost');
    expect(await raw().hgetall(key(claim.recordKey))).toEqual(before);
    expect(await append(1, ['a', 'b'], true)).toBe('written');
    const { leaseUntil, ...rest } = await raw().hgetall(key(claim.recordKey));
    expect(Number(leaseUntil)).toBeGreaterThan(Number(before.leaseUntil) + 50_000);
    expect(rest).toEqual({ ...before, leaseUntil: undefined });
    const fresh = await won(store, request());
    expect(await store.events!.append(fresh, { firstSeq: 1, items: items('a') }, 30_000)).toBe('lost');
  });

  it('of an earlier attempt is never seen again, and is removed once the next run has begun', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const redis = raw();
    const begins: ((claim: Claim) => Promise<unknown>)[] = [
      (claim) => store.events!.append(claim, { firstSeq: 1, items: items('new'), head }, 30_000),
      (claim) => store.steps!.save(claim, 'step', Buffer.from('x'), 30_000),
      (claim) => store.complete(claim, answer('no stream'), 60_000),
      (claim) => store.release(claim, { began: true }),
      (claim) => store.abandon(claim, { began: true }),
    ];
    for (const begin of begins) {
      const asked = request({ takeOver: true });
      const old = await streaming(store, asked);
      await store.release(old, { began: true });
      expect(await store.events!.read(old, 0, 100)).toMatchObject({ state: 'interrupted', tail: 2 });
      const next = await won(store, again(asked));
      expect(next.attempt).toBe(2);
      expect(await store.events!.read(old, 0, 100)).toBeUndefined();
      expect(await store.events!.read(next, 0, 100)).toBeUndefined();
      expect(await store.find(asked.recordKey)).not.toHaveProperty('stream');
      await begin(next);
      expect(await redis.hget(key(asked.recordKey), 'i2')).toBeNull();
      expect(await store.events!.read(old, 0, 100)).toBeUndefined();
    }
  });

  it.each([
    ['released', 'f1'],
    ['released', 'f2'],
    ['abandoned', 'f1'],
  ])('comes back with its %s record when the next claim is undone (%s)', async (state, fingerprint) => {
    const store = await opened.store(ioredis(redisUrl()));
    const asked = request({ takeOver: true });
    const old = await streaming(store, asked);
    if (state === 'released') await store.release(old, { began: true });
    else await store.abandon(old, { began: true });
    const found = await store.find(asked.recordKey);
    const page = await store.events!.read(old, 0, 100);
    expect(page).toMatchObject({ state: 'interrupted', tail: 2 });
    const next = await won(store, again(asked, { fingerprint }));
    expect(await store.events!.read(old, 0, 100)).toBeUndefined();
    expect(await store.release(next, { began: false })).toBe('written');
    expect(await store.find(asked.recordKey)).toEqual(found);
    expect(await store.events!.read(old, 0, 100)).toEqual(page);
  });

  it('of an attempt that is not counted is not found by the next claim, which has its number', async () => {
    const store = await opened.store(ioredis(redisUrl()));
    const redis = raw();
    for (const undo of ['release', 'abandon'] as const) {
      const asked = request({ takeOver: true });
      const old = await won(store, asked);
      await store.release(old, { began: true });
      const second = await streaming(store, again(asked));
      await store[undo](second, { began: false });
      expect(await redis.hget(key(asked.recordKey), 'i1')).toBeNull();
      const next = await won(store, again(asked));
      expect(next.attempt).toBe(2);
      expect(await store.events!.read(next, 0, 100)).toBeUndefined();
      expect(await store.events!.append(next, { firstSeq: 1, items: items('n'), head }, 30_000)).toBe('written');
      expect((await allItems(store, next)).items).toEqual(items('n'));
    }
  });

  it('can be cancelled: every later write says so, and the next claim is not marked', async () => {
    const store = await opened.store(nodeRedis(redisUrl()));
    const other = await opened.store(ioredis(redisUrl()));
    const asked = request();
    expect(await other.requestCancel!(asked.recordKey)).toBe(false);
    const claim = await streaming(store, asked);
    expect(await other.requestCancel!(asked.recordKey)).toBe(true);
    expect(await store.events!.append(claim, { firstSeq: 1, items: items('a', 'b'), head }, 30_000)).toBe(
      'cancel_requested',
    );
    expect(await store.events!.append(claim, { firstSeq: 3, items: items('c') }, 30_000)).toBe('cancel_requested');
    expect(await store.steps!.save(claim, 's', Buffer.from('x'), 30_000)).toBe('cancel_requested');
    expect(await store.renew(claim, 30_000)).toBe('cancel_requested');
    expect((await allItems(store, claim)).items).toEqual(items('a', 'b', 'c'));
    await store.release(claim, { began: true });
    expect(await other.requestCancel!(asked.recordKey)).toBe(false);
    expect(await store.renew(await won(store, again(asked)), 30_000)).toBe('written');
  });
});
