import assert from 'node:assert/strict';
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

const TEN_YEARS_MS = 3_650 * DAY_MS;

/** Insists that the record ends `ms` from now: to the millisecond where the clock can be stopped there. */
async function endsIn(b: Bench, ms: number): Promise<void> {
  if (b.exact) {
    await b.pass(ms - 1);
    assert.ok(await b.store.find(b.recordKey), 'a millisecond before its end the record is there');
    await b.store.purge(1_000);
    assert.ok(await b.store.find(b.recordKey), 'a purge leaves it there');
    await b.pass(1);
  } else {
    await b.pass(ms);
  }
  assert.equal(await b.store.find(b.recordKey), undefined, 'at its end the record is gone');
  assert.equal((await b.claim()).attempt, 1, 'and the key is new');
}

/** When records end, and `purge`. */
export const retentionCases: CaseGroup = {
  title: 'retention and purge',
  cases: {
    'a completed record ends when its retention is over': async (b) => {
      await b.completed({ retentionMs: SHORT_MS });
      await endsIn(b, SHORT_MS);
    },

    'the retention of a completed record counts from its completion, not from its claim': async (b) => {
      const claim = await b.claim({ retentionMs: MINUTE_MS });
      await b.pass(150);
      assert.equal(await b.store.complete(claim, textAnswer('first'), MINUTE_MS), 'written');
      const { claimedAt, completedAt, expiresAt } = await b.view();
      assert.ok(completedAt && expiresAt);
      about(expiresAt.getTime() - completedAt.getTime(), MINUTE_MS, 'completion to end');
      assert.ok(expiresAt.getTime() - claimedAt.getTime() >= MINUTE_MS + 148, 'claim to end');
      if (b.exact) await endsIn(b, MINUTE_MS);
    },

    'the retention given to complete replaces that of the claim': async (b) => {
      const claim = await b.claim({ retentionMs: SHORT_MS });
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
      await b.pass(SHORT_MS);
      await b.store.purge(1_000);
      await b.asks('completed');

      const recordKey = newRecordKey();
      const other = await b.claim({ recordKey, retentionMs: HOUR_MS });
      assert.equal(await b.store.complete(other, textAnswer('first'), SHORT_MS), 'written');
      await b.pass(SHORT_MS);
      assert.equal(await b.store.find(recordKey), undefined);
    },

    'a released record ends after the retention of its claim, counted from the release': async (b) => {
      const claim = await b.claim({ retentionMs: LASTING_MS });
      await b.pass(150);
      assert.equal(await b.store.release(claim, { began: true }), 'written');
      const { claimedAt, expiresAt } = await b.view();
      assert.ok(expiresAt && expiresAt.getTime() - claimedAt.getTime() >= LASTING_MS + 148);
      await endsIn(b, LASTING_MS);
    },

    'a live claim does not end with its retention': async (b) => {
      const claim = await b.claim({ leaseMs: MINUTE_MS, retentionMs: 1, keepAbandoned: false });
      await b.pass(SHORT_MS);
      await b.store.purge(1_000);
      await b.asks('in_progress');
      assert.equal(await b.store.renew(claim, HOUR_MS), 'written');
      await b.pass(SHORT_MS);
      await b.store.purge(1_000);
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
    },

    'a renewal moves the end of a claim that nobody keeps': async (b) => {
      const claim = await b.claim({ leaseMs: LASTING_MS, retentionMs: 1, keepAbandoned: false });
      assert.equal(await b.store.renew(claim, MINUTE_MS), 'written');
      await b.pass(LASTING_MS);
      await b.store.purge(1_000);
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
    },

    'a lapsed claim that is not kept ends its retention after its lease': async (b) => {
      await b.lapsed({ keepAbandoned: false, retentionMs: LASTING_MS });
      const { leaseUntil, expiresAt } = await b.view();
      assert.ok(expiresAt);
      about(expiresAt.getTime() - leaseUntil.getTime(), LASTING_MS, 'end of lease to end of record');
      await endsIn(b, LASTING_MS);
    },

    'an abandoned run that is not kept ends its retention after it was abandoned': async (b) => {
      const claim = await b.claim({ leaseMs: HOUR_MS, keepAbandoned: false, retentionMs: LASTING_MS });
      assert.equal(await b.store.abandon(claim, { began: true }), 'written');
      assert.ok((await b.view()).expiresAt);
      await endsIn(b, LASTING_MS);
    },

    'an abandoned record that is kept survives its retention and every purge': async (b) => {
      const ways = {
        lapsed: (recordKey: string) => b.lapsed({ recordKey, retentionMs: SHORT_MS }),
        abandoned: async (recordKey: string) => {
          await b.store.abandon(await b.claim({ recordKey, retentionMs: SHORT_MS }), { began: true });
        },
      };
      for (const [how, make] of Object.entries(ways)) {
        const recordKey = newRecordKey();
        await make(recordKey);
        await b.pass(b.exact ? TEN_YEARS_MS : 3 * SHORT_MS);
        await b.store.purge(1_000);
        const view = await b.view(recordKey);
        assert.equal(view.state, 'abandoned', how);
        assert.equal(view.expiresAt, undefined, how);
        await b.asks('abandoned', { recordKey });
        assert.equal((await b.claim({ recordKey, takeOver: true })).attempt, 2, how);
      }
    },

    'what becomes of an abandoned record is for the latest claim to say': async (b) => {
      await b.lapsed({ keepAbandoned: true, retentionMs: HOUR_MS });
      await b.lapse(await b.claim({ takeOver: true, keepAbandoned: false, retentionMs: SHORT_MS }));
      await b.pass(SHORT_MS);
      assert.equal(await b.store.find(b.recordKey), undefined);

      await b.lapsed({ keepAbandoned: false, retentionMs: HOUR_MS });
      await b.lapse(await b.claim({ takeOver: true, keepAbandoned: true, retentionMs: SHORT_MS }));
      await b.pass(SHORT_MS);
      await b.store.purge(1_000);
      assert.equal((await b.view()).state, 'abandoned');
    },

    'a retention of weeks or years does not overflow anything': async (b) => {
      for (const retentionMs of [40 * DAY_MS, TEN_YEARS_MS]) {
        const recordKey = newRecordKey();
        await b.completed({ recordKey, retentionMs });
        await b.pass(b.exact ? retentionMs - 1 : SHORT_MS);
        await b.store.purge(1_000);
        const { completedAt, expiresAt } = await b.view(recordKey);
        assert.ok(completedAt && expiresAt);
        about(expiresAt.getTime() - completedAt.getTime(), retentionMs, 'the retention');
        if (!b.exact) continue;
        await b.pass(1);
        assert.equal(await b.store.find(recordKey), undefined);
      }
    },

    'purge removes what is over, no more than its limit, and tells how much': async (b) => {
      while ((await b.store.purge(1_000)) > 0); // what other cases have left
      for (let n = 0; n < 5; n += 1) await b.completed({ recordKey: newRecordKey(), retentionMs: SHORT_MS });
      await b.completed();
      await b.pass(SHORT_MS);
      const counts = [await b.store.purge(2), await b.store.purge(2), await b.store.purge(2), await b.store.purge(2)];
      // A backend whose records leave by themselves has nothing to purge.
      assert.ok(['2,2,1,0', '0,0,0,0'].includes(counts.join()), `purged ${counts.join()} of 5 at 2 a time`);
      await b.asks('completed');
    },

    'purge removes nothing that is live, or abandoned within its retention': async (b) => {
      const keys = { live: newRecordKey(), lapsed: newRecordKey(), released: newRecordKey() };
      await b.claim({ recordKey: keys.live });
      await b.lapsed({ recordKey: keys.lapsed, keepAbandoned: false });
      await b.released({ recordKey: keys.released });
      await b.store.purge(1_000);
      assert.equal((await b.view(keys.live)).state, 'in_progress');
      assert.equal((await b.view(keys.lapsed)).state, 'abandoned');
      assert.equal((await b.view(keys.released)).state, 'released');
    },

    'purge with nothing to remove is 0': async (b) => {
      while ((await b.store.purge(1_000)) > 0);
      assert.equal(await b.store.purge(1_000), 0);
    },
  },
};
