import assert from 'node:assert/strict';
import type { StreamRef } from '../../core/event-log.js';
import type { IdempotencyStore } from '../../core/store.js';
import { HOUR_MS, newRecordKey, sleep, type CaseGroup } from './bench.js';
import { listen, settle, soon } from './listening.js';
import {
  append,
  hasItems,
  latin1,
  logOf,
  MUCH,
  numbered,
  page,
  refOf,
  streamedAnswer,
  streaming,
  texts,
} from './stream-kit.js';

const ROUNDS = 50;

/** Reads a stream as a follower does, until it is live no more; what it saw, in the order in which it did. */
async function follow(store: IdempotencyStore, stream: StreamRef, maxBytes: number): Promise<string[]> {
  const seen: string[] = [];
  for (;;) {
    const { items, state, tail } = await page(store, stream, seen.length, maxBytes);
    for (const { seq, bytes } of items) {
      assert.equal(seq, seen.length + 1, 'in order, without a gap');
      seen.push(latin1(bytes));
    }
    if (state !== 'live' && seen.length === tail) return seen;
    await sleep(0); // lets the producer get on, also where nothing here waits for a network
  }
}

/** Followers, hints, and what may come out when an append meets another call. */
export const streamFollowingCases: CaseGroup['cases'] = {
  'followers that read while 1,000 items are appended see each once, in order': async (b) => {
    const items = numbered(1, 1_000);
    const claim = await b.claim();
    const other = await b.other();
    assert.equal(await append(b.store, claim, 1, items.slice(0, 1)), 'written');
    const produce = async () => {
      for (let from = 1, size = 1; from < items.length; from += size, size = (size % 23) + 1) {
        assert.equal(await append(b.store, claim, from + 1, items.slice(from, from + size)), 'written');
        await sleep(0);
      }
      assert.equal(await b.store.complete(claim, streamedAnswer(items.length), HOUR_MS), 'written');
    };
    const [, ...seen] = await Promise.all([
      produce(),
      ...[50, 1_000, MUCH].map((maxBytes) => follow(other, refOf(claim), maxBytes)),
    ]);
    for (const each of seen) assert.deepEqual(each, items.map(latin1));
  },

  'a follower is woken when another client appends, and finds the items by then': async (b) => {
    if (!b.store.subscribe) return;
    const claim = await b.claim();
    for (let seq = 1; seq <= 3; seq += 1) {
      const waiter = listen(b, b.recordKey);
      try {
        await settle(b);
        const found = waiter.called.then(() => logOf(b.store).read(refOf(claim), seq - 1, MUCH));
        assert.equal(await append(await b.other(), claim, seq, numbered(seq, seq)), 'written');
        assert.ok(await soon(waiter.called), `woken by item ${seq}`);
        assert.equal((await found)?.items[0]?.seq, seq);
      } finally {
        waiter.end();
      }
    }
  },

  'an append and a takeover at the end of the lease: never both': async (b) => {
    const other = await b.other();
    for (let round = 0; round < ROUNDS; round += 1) {
      const recordKey = newRecordKey();
      const claim = await streaming(b, ['old 1'], { recordKey });
      assert.equal(await b.store.renew(claim, 5), 'written');
      if (b.exact) await b.pass(5);
      else await sleep(round % 8);
      const [written, taken] = await Promise.all([
        append(b.store, claim, 2, texts('old 2'), { leaseMs: HOUR_MS }),
        other.claim(b.request({ recordKey, takeOver: true })),
      ]);
      if (taken.kind === 'claimed') {
        assert.equal(written, 'lost');
        assert.equal(await logOf(b.store).read(refOf(claim), 0, MUCH), undefined);
        assert.equal(await append(other, taken.claim, 1, texts('new 1')), 'written');
        await hasItems(b.store, refOf(taken.claim), texts('new 1'));
      } else {
        assert.equal(taken.kind, 'in_progress');
        await hasItems(b.store, refOf(claim), written === 'written' ? texts('old 1', 'old 2') : texts('old 1'));
      }
      if (b.exact) assert.equal(taken.kind, 'claimed');
    }
  },

  'a reader sees either generation whole, and never both in one': async (b) => {
    const other = await b.other();
    for (let round = 0; round < 10; round += 1) {
      const recordKey = newRecordKey();
      const old = await streaming(b, ['old 1', 'old 2'], { recordKey });
      assert.equal(await b.store.release(old, { began: true }), 'written');
      const rerun = async () => {
        const claim = await b.claim({ recordKey });
        assert.equal(await append(b.store, claim, 1, texts('new 1')), 'written');
      };
      const look = async () => {
        for (let n = 0; n < 5; n += 1) {
          const found = await logOf(other).read(refOf(old), 0, MUCH);
          const items = found?.items.map(({ bytes }) => latin1(bytes)) ?? [];
          assert.deepEqual(items, found ? ['old 1', 'old 2'] : []);
          await sleep(0);
        }
      };
      await Promise.all([look(), rerun(), look()]);
    }
  },

  'one batch that is sent several times at once is written once': async (b) => {
    const stores = [b.store, await b.other()];
    const claim = await b.claim();
    for (const [from, to] of [
      [1, 1],
      [2, 2],
      [3, 9],
    ] as const) {
      const results = await Promise.all(
        Array.from({ length: 8 }, (_, i) => append(stores[i % 2]!, claim, from, numbered(from, to))),
      );
      assert.deepEqual(new Set(results), new Set(['written']));
      await hasItems(b.store, refOf(claim), numbered(1, to));
    }
  },
};
