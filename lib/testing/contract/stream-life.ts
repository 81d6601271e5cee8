import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { StreamEnd, StreamPage, StreamRef } from '../../core/event-log.js';
import type { Claim } from '../../core/record.js';
import {
  about,
  HOUR_MS,
  LASTING_MS,
  MINUTE_MS,
  sameAnswer,
  SHORT_MS,
  textAnswer,
  type Bench,
  type CaseGroup,
} from './bench.js';
import {
  append,
  flatHead,
  hasItems,
  HEAD,
  logOf,
  MUCH,
  OTHER_HEAD,
  page,
  refOf,
  streamedAnswer,
  streaming,
  texts,
  WAYS_TO_END,
  WAYS_TO_LOSE,
} from './stream-kit.js';

const ENDS: readonly StreamEnd[] = ['complete', 'failed', 'cancelled', 'truncated', 'timeout'];

const INTERRUPTIONS: Readonly<Record<string, (b: Bench, claim: Claim) => Promise<unknown>>> = {
  'its lease is over': (b, claim) => b.lapse(claim),
  'its run was abandoned': (b, claim) => b.store.abandon(claim, { began: true }),
  'its run was released': (b, claim) => b.store.release(claim, { began: true }),
  'it was abandoned and may run again': async (b, claim) => {
    await b.lapse(claim);
    assert.equal(await b.store.resolve(b.recordKey, { kind: 'rerun' }, HOUR_MS), true);
  },
};

const ENDS_OF_THE_RECORD = {
  ...WAYS_TO_END,
  'another fingerprint has claimed it as a new one': WAYS_TO_LOSE['its key was claimed as a new record']!,
};

async function isGone(b: Bench, stream: StreamRef): Promise<void> {
  for (const store of [b.store, await b.other()]) {
    for (const after of [0, 1, 99]) assert.equal(await logOf(store).read(stream, after, MUCH), undefined);
  }
}

function standingOf({ state, end, tail, leaseRemainingMs }: StreamPage): unknown {
  return { state, end, tail, leaseRemainingMs };
}

/** How a stream ends, and what becomes of it: with its record, with its attempt. */
export const streamLifeCases: CaseGroup['cases'] = {
  ...Object.fromEntries(
    ENDS.map((end) => [
      `a stream that has come to its end, ${end}, says so, and is kept whole`,
      async (b: Bench) => {
        const claim = await streaming(b, ['one', 'two', 'three']);
        const other = await b.other();
        const complete = () => b.store.complete(claim, streamedAnswer(3, end), HOUR_MS);
        assert.equal(await complete(), 'written');
        assert.equal(await complete(), 'written', 'and again');
        for (const store of [b.store, other]) {
          const { record } = await b.asks('completed', {}, store);
          sameAnswer(record.answer, streamedAnswer(3, end));
          assert.deepEqual([record.recordId, record.attempt], [claim.recordId, 1]);
          for (const after of [0, 2, 3]) {
            const found = await page(store, refOf(claim), after);
            assert.deepEqual(standingOf(found), { state: 'ended', end, tail: 3, leaseRemainingMs: 0 });
            assert.deepEqual(flatHead(found.head), flatHead(HEAD));
          }
          await hasItems(store, refOf(claim), texts('one', 'two', 'three'));
        }
        const { answer, stream } = await b.view();
        sameAnswer(answer, streamedAnswer(3, end));
        assert.deepEqual(flatHead(stream), flatHead(HEAD));
      },
    ]),
  ),

  'a stream that has ended before its first item is there, with its head': async (b) => {
    const claim = await b.claim();
    assert.equal(await b.store.complete(claim, streamedAnswer(0, 'truncated'), HOUR_MS), 'written');
    sameAnswer((await b.asks('completed')).record.answer, streamedAnswer(0, 'truncated'));
    const found = await page(await b.other(), refOf(claim));
    assert.deepEqual(standingOf(found), { state: 'ended', end: 'truncated', tail: 0, leaseRemainingMs: 0 });
    assert.deepEqual([found.items.length, flatHead(found.head)], [0, flatHead(HEAD)]);
  },

  'an answer that is no stream has none, before and after its completion': async (b) => {
    const claim = await b.completed();
    assert.equal((await b.view()).stream, undefined);
    await isGone(b, refOf(claim));
  },

  'a stream whose record was settled by somebody has ended, without an end of its own': async (b) => {
    const claim = await streaming(b, ['one']);
    await b.lapse(claim);
    const answer = textAnswer('settled');
    assert.equal(await b.store.resolve(b.recordKey, { kind: 'completed', answer }, HOUR_MS), true);
    const found = await page(b.store, refOf(claim));
    assert.deepEqual(standingOf(found), { state: 'ended', end: undefined, tail: 1, leaseRemainingMs: 0 });
    sameAnswer((await b.asks('completed')).record.answer, answer);
  },

  'a stream is live while its lease lasts, and tells how long that is': async (b) => {
    const claim = await streaming(b, ['one']);
    assert.equal(await b.store.renew(claim, MINUTE_MS), 'written');
    await b.pass(SHORT_MS);
    for (const after of [0, 1]) {
      const { state, end, leaseRemainingMs } = await page(await b.other(), refOf(claim), after);
      assert.deepEqual([state, end], ['live', undefined]);
      assert.ok(leaseRemainingMs > MINUTE_MS / 2 && leaseRemainingMs <= MINUTE_MS - SHORT_MS, `${leaseRemainingMs} ms`);
      if (b.exact) about(leaseRemainingMs, MINUTE_MS - SHORT_MS, 'the lease');
    }
  },

  ...Object.fromEntries(
    Object.entries(INTERRUPTIONS).map(([when, interrupt]) => [
      `a stream is interrupted, with all that was recorded, once ${when}`,
      async (b: Bench) => {
        const claim = await streaming(b, ['one', 'two']);
        await interrupt(b, claim);
        for (const store of [b.store, await b.other()]) {
          for (const after of [0, 2]) {
            const found = await page(store, refOf(claim), after);
            assert.deepEqual(standingOf(found), { state: 'interrupted', end: undefined, tail: 2, leaseRemainingMs: 0 });
          }
          await hasItems(store, refOf(claim), texts('one', 'two'));
        }
        assert.deepEqual(flatHead((await b.view()).stream), flatHead(HEAD));
      },
    ]),
  ),

  'an abandoned record is told with the head of its stream, and without one where it has none': async (b) => {
    const silent = await b.lapsed();
    assert.equal((await b.asks('abandoned')).record.stream, undefined);
    assert.equal(await b.store.forget(silent.recordKey), true);

    await b.lapse(await streaming(b, ['one']));
    assert.deepEqual(flatHead((await b.asks('abandoned')).record.stream), flatHead(HEAD));
    const next = await b.claim({ takeOver: true });
    assert.equal(await append(b.store, next, 1, texts('two'), { head: OTHER_HEAD }), 'written');
    assert.equal(await b.store.abandon(next, { began: true }), 'written');
    const { record } = await b.asks('abandoned', {}, await b.other());
    assert.deepEqual([record.attempt, flatHead(record.stream)], [2, flatHead(OTHER_HEAD)]);
  },

  ...Object.fromEntries(
    (['a takeover', 'a claim of a released record'] as const).map((way) => [
      `${way} begins the stream anew: the old one is gone at once, and the numbers begin at 1`,
      async (b: Bench) => {
        const old = await streaming(b, ['old 1', 'old 2', 'old 3']);
        if (way === 'a takeover') await b.lapse(old);
        else assert.equal(await b.store.release(old, { began: true }), 'written');
        const claim = await b.claim({ takeOver: true });
        await isGone(b, refOf(old));
        await isGone(b, refOf(claim));
        assert.equal((await b.asks('in_progress')).stream, undefined);
        assert.equal((await b.view()).stream, undefined);
        assert.equal(
          await append(b.store, claim, 4, texts('new 4')),
          'lost',
          'it does not go on where the old one was',
        );
        assert.equal(await append(b.store, claim, 1, texts('new 1'), { head: OTHER_HEAD }), 'written');
        await isGone(b, refOf(old));
        await hasItems(await b.other(), refOf(claim), texts('new 1'));
        assert.deepEqual(flatHead((await page(b.store, refOf(claim))).head), flatHead(OTHER_HEAD));
        assert.deepEqual({ ...(await b.asks('in_progress')).stream }, refOf(claim));
        assert.equal(await b.store.complete(claim, streamedAnswer(1), HOUR_MS), 'written');
        await isGone(b, refOf(old));
        await hasItems(b.store, refOf(claim), texts('new 1'));
      },
    ]),
  ),

  'an attempt that is not counted leaves no items to the one that gets its number': async (b) => {
    for (const give of ['release', 'abandon'] as const) {
      const first = await streaming(b, ['one']);
      await b.lapse(first);
      const uncounted = await b.claim({ takeOver: true });
      assert.equal(await append(b.store, uncounted, 1, texts('uncounted')), 'written');
      assert.equal(await b.store[give](uncounted, { began: false }), 'written');
      const claim = await b.claim({ takeOver: true });
      assert.deepEqual(refOf(claim), refOf(uncounted), give);
      await isGone(b, refOf(claim));
      assert.equal(await append(b.store, claim, 1, texts('two')), 'written');
      await hasItems(b.store, refOf(claim), texts('two'));
      assert.equal(await b.store.complete(claim, streamedAnswer(1), HOUR_MS), 'written');
      assert.equal(await b.store.forget(b.recordKey), true);
    }
  },

  'after an undone takeover the old stream is there as it was, or not at all': async (b) => {
    for (const give of ['release', 'abandon'] as const) {
      const first = await streaming(b, ['one', 'two']);
      await b.lapse(first);
      assert.equal(await b.store[give](await b.claim({ takeOver: true }), { began: false }), 'written');
      const found = await logOf(b.store).read(refOf(first), 0, MUCH);
      assert.deepEqual(flatHead((await b.view()).stream), found && flatHead(HEAD), give);
      if (found) {
        assert.equal(found.state, 'interrupted');
        await hasItems(b.store, refOf(first), texts('one', 'two'));
      }
      assert.equal(await b.store.forget(b.recordKey), true);
    }
  },

  ...Object.fromEntries(
    Object.entries(ENDS_OF_THE_RECORD).map(([way, end]) => [
      `a stream is gone with its record once ${way}, and the next record knows nothing of it`,
      async (b: Bench) => {
        const old = await streaming(b, ['one', 'two']);
        await end(b, old);
        await isGone(b, refOf(old));
        // One of the ways has claimed the key already, as a new record.
        if (!(await b.store.find(b.recordKey))) await b.claim();
        const view = await b.view();
        assert.equal(view.stream, undefined);
        await isGone(b, view);
        await isGone(b, refOf(old));
      },
    ]),
  ),

  'a stream of which the record holds another record id or attempt is not there': async (b) => {
    const claim = await streaming(b, ['one']);
    const ref = refOf(claim);
    await isGone(b, { ...ref, recordId: randomUUID() });
    for (const attempt of [0, 2]) await isGone(b, { ...ref, attempt });
    await hasItems(b.store, ref, texts('one'));
  },

  'a stream lives as long as its record: over renewals, and after its completion': async (b) => {
    const claim = await b.claim({ leaseMs: LASTING_MS, retentionMs: 1, keepAbandoned: false });
    assert.equal(await append(b.store, claim, 1, texts('one'), { leaseMs: LASTING_MS }), 'written');
    assert.equal(await b.store.renew(claim, MINUTE_MS), 'written');
    await b.pass(LASTING_MS);
    await b.store.purge(1_000);
    await hasItems(b.store, refOf(claim), texts('one'));
    assert.equal(await append(b.store, claim, 2, texts('two'), { leaseMs: LASTING_MS }), 'written');
    assert.equal(await b.store.complete(claim, streamedAnswer(2), HOUR_MS), 'written');
    await b.pass(LASTING_MS);
    await b.store.purge(1_000);
    await hasItems(b.store, refOf(claim), texts('one', 'two'));
  },

  'a stream lives as long as its record: abandoned and kept': async (b) => {
    const claim = await streaming(b, ['one'], { retentionMs: SHORT_MS, keepAbandoned: true });
    await b.lapse(claim);
    await b.pass(3 * SHORT_MS);
    await b.store.purge(1_000);
    await hasItems(b.store, refOf(claim), texts('one'));
    assert.equal((await page(b.store, refOf(claim))).state, 'interrupted');
  },
};
