import assert from 'node:assert/strict';
import type { Claim } from '../../core/record.js';
import {
  about,
  DAY_MS,
  HOUR_MS,
  LASTING_MS,
  MINUTE_MS,
  newRecordKey,
  SHORT_MS,
  textAnswer,
  type Bench,
  type CaseGroup,
} from './bench.js';

/** How a claim of a key can end so that the key is claimed once more. */
const WAYS_TO_THE_NEXT_CLAIM: Readonly<Record<string, (b: Bench, claim: Claim) => Promise<unknown>>> = {
  'a release': (b, claim) => b.store.release(claim, { began: true }),
  'a release that did not begin': (b, claim) => b.store.release(claim, { began: false }),
  'a lapsed lease': (b, claim) => b.lapse(claim),
  'an abandoned run': (b, claim) => b.store.abandon(claim, { began: true }),
  'an abandoned run that did not begin': (b, claim) => b.store.abandon(claim, { began: false }),
  'a settled record': async (b, claim) => {
    await b.lapse(claim);
    await b.store.resolve(b.recordKey, { kind: 'rerun' }, HOUR_MS);
  },
  'the end of a retention': async (b, claim) => {
    await b.store.complete(claim, textAnswer('first'), SHORT_MS);
    await b.pass(SHORT_MS);
  },
  'a purge': async (b, claim) => {
    await b.store.complete(claim, textAnswer('first'), SHORT_MS);
    await b.pass(SHORT_MS);
    await b.store.purge(1_000);
  },
  'a forgotten record': async (b, claim) => {
    await b.store.complete(claim, textAnswer('first'), HOUR_MS);
    await b.store.forget(b.recordKey);
  },
};

/** The lease, its renewal, and what a claim can no longer do after it. */
export const leaseCases: CaseGroup = {
  title: 'lease and fencing token',
  cases: {
    ...Object.fromEntries(
      Object.entries(WAYS_TO_THE_NEXT_CLAIM).map(([way, end]) => [
        `the fencing token increases over ${way}`,
        async (b: Bench) => {
          let last = await b.claim();
          for (let round = 0; round < 3; round += 1) {
            await end(b, last);
            const next = await b.claim({ takeOver: true }, round === 1 ? await b.other() : b.store);
            assert.ok(next.fencingToken > last.fencingToken, `${next.fencingToken} after ${last.fencingToken}`);
            assert.ok(Number.isSafeInteger(next.fencingToken));
            assert.equal((await b.view()).fencingToken, next.fencingToken);
            last = next;
          }
        },
      ]),
    ),

    'a lease ends by itself, and the outcome is then unknown': async (b) => {
      await b.claim({ leaseMs: SHORT_MS });
      if (b.exact) {
        await b.pass(SHORT_MS - 1);
        assert.equal((await b.asks('in_progress')).leaseRemainingMs, 1);
        assert.equal((await b.view()).state, 'in_progress');
        await b.pass(1);
      } else {
        await b.pass(SHORT_MS);
      }
      await b.asks('abandoned');
      assert.equal((await b.view()).state, 'abandoned');
    },

    'renew sets the lease to end that long from now': async (b) => {
      const claim = await b.claim({ leaseMs: LASTING_MS });
      assert.equal(await (await b.other()).renew(claim, MINUTE_MS), 'written');
      await b.pass(LASTING_MS);
      const { leaseRemainingMs } = await b.asks('in_progress');
      assert.ok(leaseRemainingMs <= MINUTE_MS - LASTING_MS, `${leaseRemainingMs} ms`);
      if (b.exact) assert.equal(leaseRemainingMs, MINUTE_MS - LASTING_MS);
      assert.equal((await b.view()).attempt, 1);
    },

    'renew counts from now, not from the old end: it can shorten a lease': async (b) => {
      const claim = await b.claim({ leaseMs: HOUR_MS });
      assert.equal(await b.store.renew(claim, MINUTE_MS), 'written');
      const { leaseRemainingMs } = await b.asks('in_progress');
      assert.ok(leaseRemainingMs <= MINUTE_MS, `${leaseRemainingMs} ms`);
      assert.equal(await b.store.renew(claim, MINUTE_MS), 'written', 'and again');
      assert.ok((await b.asks('in_progress')).leaseRemainingMs <= MINUTE_MS);
    },

    'renew changes the lease and nothing else': async (b) => {
      const claim = await b.claim();
      const before = await b.view();
      await b.pass(SHORT_MS);
      await b.store.renew(claim, HOUR_MS);
      assert.deepEqual({ ...(await b.view()), leaseUntil: null }, { ...before, leaseUntil: null });
    },

    'after the lease every write is lost, though nobody has taken over': async (b) => {
      const claim = await b.lapsed();
      const { 'release, not begun': _undo, ...writes } = b.writesOf(claim);
      await b.changesNothing(writes, 'lost');
      assert.equal((await b.view()).state, 'abandoned');
    },

    'the lease is over at its end, not after it': async (b) => {
      if (!b.exact) return; // only a clock that stands still can be stopped there
      const claim = await b.claim({ leaseMs: LASTING_MS });
      await b.pass(LASTING_MS - 1);
      assert.equal(await b.store.renew(claim, LASTING_MS), 'written');
      await b.pass(LASTING_MS);
      assert.equal(await b.store.renew(claim, LASTING_MS), 'lost');
      assert.equal(await b.store.complete(claim, textAnswer('late'), HOUR_MS), 'lost');
      assert.equal((await b.claim({ takeOver: true })).attempt, 2);
    },

    'after a takeover every write of the old claim is lost, and the new claim lives': async (b) => {
      const old = await b.lapsed();
      const claim = await b.claim({ takeOver: true });
      await b.changesNothing(b.writesOf(old), 'lost');
      assert.equal(await b.store.complete(claim, textAnswer('second'), HOUR_MS), 'written');
      await b.changesNothing(b.writesOf(old, await b.other()), 'lost');
    },

    'after another claim of a released record every write of the old claim is lost': async (b) => {
      const old = await b.released();
      const claim = await b.claim();
      await b.changesNothing(b.writesOf(old), 'lost');
      assert.equal(await b.store.renew(claim, HOUR_MS), 'written');
    },

    'after the retention every write of the old claim is lost': async (b) => {
      const old = await b.claim({ keepAbandoned: false, retentionMs: SHORT_MS });
      await b.lapse(old);
      await b.pass(SHORT_MS);
      const { 'release, not begun': _undo, ...writes } = b.writesOf(old);
      await b.changesNothing(writes, 'lost');
      const claim = await b.claim();
      await b.changesNothing(b.writesOf(old), 'lost');
      assert.equal(await b.store.renew(claim, HOUR_MS), 'written');
    },

    "a write under a token that is not the record's is lost": async (b) => {
      const claim = await b.claim();
      const { claimToken } = b.request();
      await b.changesNothing(b.writesOf({ recordKey: claim.recordKey, claimToken }), 'lost');
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
    },

    'a write under the token of another key is lost': async (b) => {
      const claim = await b.claim();
      const { claimToken } = await b.claim({ recordKey: newRecordKey() });
      await b.changesNothing(b.writesOf({ recordKey: claim.recordKey, claimToken }), 'lost');
    },

    'a write without a record is lost, and makes none': async (b) => {
      await b.changesNothing(b.writesOf(b.request()), 'lost');
      assert.equal(await b.store.find(b.recordKey), undefined);
    },

    'a lease of weeks does not overflow anything': async (b) => {
      const claim = await b.claim({ leaseMs: 40 * DAY_MS });
      await b.pass(SHORT_MS);
      const { leaseRemainingMs } = await b.asks('in_progress');
      about(leaseRemainingMs, 40 * DAY_MS, 'the remaining lease', MINUTE_MS);
      assert.equal(await b.store.renew(claim, 365 * DAY_MS), 'written');
      await b.pass(SHORT_MS);
      about((await b.asks('in_progress')).leaseRemainingMs, 365 * DAY_MS, 'the renewed lease', MINUTE_MS);
    },
  },
};
