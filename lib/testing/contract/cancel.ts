import assert from 'node:assert/strict';
import type { Claim } from '../../core/record.js';
import type { IdempotencyStore } from '../../core/store.js';
import { flat, HOUR_MS, SHORT_MS, MINUTE_MS, textAnswer, type Bench, type CaseGroup } from './bench.js';
import { append, hasItems, numbered, refOf, texts, WAYS_TO_LOSE } from './stream-kit.js';

async function cancel(b: Bench, store: IdempotencyStore = b.store): Promise<boolean> {
  const requested = await store.requestCancel?.(b.recordKey);
  assert.ok(requested !== undefined, 'the store can be asked to cancel');
  return requested;
}

/** A live claim that somebody has asked to cancel. */
async function cancelled(b: Bench): Promise<Claim> {
  const claim = await b.claim();
  assert.equal(await cancel(b, await b.other()), true);
  return claim;
}

/** How a claim comes to an end after which the key is claimed once more. */
const WAYS_TO_THE_NEXT_CLAIM: Readonly<Record<string, (b: Bench, claim: Claim) => Promise<unknown>>> = {
  'a release': (b, claim) => b.store.release(claim, { began: true }),
  'a release that did not begin': (b, claim) => b.store.release(claim, { began: false }),
  'a lapsed lease': (b, claim) => lapse(b, claim),
  'an abandoned run': (b, claim) => b.store.abandon(claim, { began: true }),
  'an abandoned run that did not begin': (b, claim) => b.store.abandon(claim, { began: false }),
  'a settled record': async (b, claim) => {
    await lapse(b, claim);
    await b.store.resolve(b.recordKey, { kind: 'rerun' }, HOUR_MS);
  },
  'a forgotten record': async (b, claim) => {
    await b.store.complete(claim, textAnswer('first'), HOUR_MS);
    await b.store.forget(b.recordKey);
  },
  'the end of a retention': async (b, claim) => {
    await b.store.complete(claim, textAnswer('first'), 1);
    await b.pass(1);
  },
};

/** As `Bench.lapse`, of a claim that is told of its cancellation on the way. */
async function lapse(b: Bench, claim: Claim): Promise<void> {
  assert.equal(await b.store.renew(claim, SHORT_MS), 'cancel_requested');
  await b.pass(SHORT_MS);
}

/** `requestCancel`. */
export const cancelCases: CaseGroup = {
  title: 'requests to cancel',
  needs: 'requestCancel',
  cases: {
    'a live claim that is asked to cancel is told so by each renewal from then on': async (b) => {
      const claim = await b.claim();
      assert.equal(await b.store.renew(claim, MINUTE_MS), 'written');
      assert.equal(await cancel(b, await b.other()), true);
      for (const store of [b.store, await b.other(), b.store]) {
        assert.equal(await store.renew(claim, HOUR_MS), 'cancel_requested');
      }
      assert.ok((await b.asks('in_progress')).leaseRemainingMs > MINUTE_MS, 'and the lease is renewed nevertheless');
    },

    'a live claim that is asked to cancel is told so by each append, which is written': async (b) => {
      if (!b.store.events) return;
      const claim = await b.claim();
      assert.equal(await append(b.store, claim, 1, numbered(1, 1)), 'written');
      assert.equal(await cancel(b), true);
      assert.equal(await append(b.store, claim, 2, numbered(2, 3)), 'cancel_requested');
      assert.equal(await append(b.store, claim, 2, numbered(2, 3)), 'cancel_requested', 'repeated');
      assert.equal(await append(b.store, claim, 9, numbered(9, 9)), 'lost', 'a gap is one nevertheless');
      assert.equal(await append(b.store, claim, 4, numbered(4, 4), { leaseMs: HOUR_MS }), 'cancel_requested');
      await hasItems(await b.other(), refOf(claim), numbered(1, 4));
      assert.ok((await b.asks('in_progress')).leaseRemainingMs > MINUTE_MS, 'the lease is renewed');
    },

    'a claim that was asked to cancel before its first append is told so by it': async (b) => {
      if (!b.store.events) return;
      const claim = await cancelled(b);
      assert.equal(await append(b.store, claim, 1, numbered(1, 2)), 'cancel_requested');
      await hasItems(b.store, refOf(claim), numbered(1, 2));
    },

    'a live claim that is asked to cancel is told so by each save, which is written': async (b) => {
      const { steps } = b.store;
      if (!steps) return;
      const claim = await cancelled(b);
      const [result] = texts('first');
      for (const name of ['one', 'two', 'two']) {
        assert.equal(await steps.save(claim, name, result!, HOUR_MS), 'cancel_requested');
      }
      assert.deepEqual([...(await steps.load(claim)).keys()].toSorted(), ['one', 'two']);
      assert.ok((await b.asks('in_progress')).leaseRemainingMs > MINUTE_MS, 'the lease is renewed');
    },

    'it may be asked more than once': async (b) => {
      const claim = await cancelled(b);
      assert.equal(await cancel(b), true);
      assert.equal(await b.store.renew(claim, MINUTE_MS), 'cancel_requested');
      assert.equal(await cancel(b), true, 'also once the claim was told');
    },

    'a claim that was asked to cancel is looked at and settled as any other': async (b) => {
      const claim = await b.claim();
      const before = flat(await b.view());
      assert.equal(await cancel(b), true);
      assert.deepEqual(flat(await b.view()), before, 'find shows the same');
      await b.asks('in_progress', { takeOver: true });
      await b.asks('reused', { fingerprint: 'fingerprint-2' });
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written', 'repeated');
      await b.asks('completed');
    },

    'a claim that was asked to cancel stays asked when it is repeated with its own token': async (b) => {
      const request = b.request();
      const claim = await b.claim(request);
      assert.equal(await cancel(b), true);
      assert.deepEqual({ ...(await b.claim(request)) }, { ...claim });
      assert.equal(await b.store.renew(claim, MINUTE_MS), 'cancel_requested');
    },

    'a foreign token is told nothing but that it is lost': async (b) => {
      await cancelled(b);
      await b.changesNothing(b.writesOf({ recordKey: b.recordKey, claimToken: b.request().claimToken }), 'lost');
    },

    'a claim that was asked to cancel is lost after its lease as any other': async (b) => {
      const claim = await cancelled(b);
      await lapse(b, claim);
      const { 'release, not begun': _undo, ...writes } = b.writesOf(claim);
      await b.changesNothing(writes, 'lost');
    },

    'without a record there is nothing to cancel, and none is made': async (b) => {
      assert.equal(await cancel(b), false);
      assert.equal(await b.store.find(b.recordKey), undefined);
    },

    ...Object.fromEntries(
      Object.entries(WAYS_TO_LOSE)
        .filter(([way]) => !/claimed|taken over/.test(way)) // there a live claim can be cancelled again
        .map(([way, lose]) => [
          `nothing is cancelled, and nothing changed, where a claim was held and ${way}`,
          async (b: Bench) => {
            await lose(b, await b.claim());
            await b.changesNothing({ cancel: () => cancel(b) }, false);
          },
        ]),
    ),

    ...Object.fromEntries(
      Object.entries(WAYS_TO_THE_NEXT_CLAIM).map(([way, end]) => [
        `a claim after ${way} is not asked to cancel, though the one before it was`,
        async (b: Bench) => {
          await end(b, await cancelled(b));
          const next = await b.claim({ takeOver: true });
          assert.equal(await b.store.renew(next, MINUTE_MS), 'written');
          assert.equal(await cancel(b), true, 'until it is asked itself');
          assert.equal(await b.store.renew(next, MINUTE_MS), 'cancel_requested');
        },
      ]),
    ),

    'a request that comes after the lease does not reach the claim that takes over': async (b) => {
      await b.lapsed();
      assert.equal(await cancel(b), false);
      assert.equal(await b.store.renew(await b.claim({ takeOver: true }), MINUTE_MS), 'written');
    },
  },
};
