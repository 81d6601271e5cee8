import assert from 'node:assert/strict';
import type { Resolution } from '../../core/store.js';
import { about, DAY_MS, HOUR_MS, sameAnswer, SHORT_MS, textAnswer, type CaseGroup } from './bench.js';

const COMPLETED: Resolution = { kind: 'completed', answer: textAnswer('settled') };
const RERUN: Resolution = { kind: 'rerun' };

/** `resolve` and `forget`. */
export const settlingCases: CaseGroup = {
  title: 'resolve and forget',
  cases: {
    'resolve completes a record whose lease has ended': async (b) => {
      const claim = await b.lapsed();
      assert.equal(await (await b.other()).resolve(b.recordKey, COMPLETED, DAY_MS), true);
      const { record } = await b.asks('completed');
      assert.equal(record.recordId, claim.recordId);
      assert.equal(record.attempt, 1);
      sameAnswer(record.answer, textAnswer('settled'));
      assert.ok(record.completedAt && record.expiresAt);
      about(record.expiresAt.getTime() - record.completedAt.getTime(), DAY_MS, 'the retention');
      await b.asks('reused', { fingerprint: 'fingerprint-2' });
    },

    'resolve completes a record that its run abandoned': async (b) => {
      await b.store.abandon(await b.claim(), { began: true });
      assert.equal(await b.store.resolve(b.recordKey, COMPLETED, HOUR_MS), true);
      await b.asks('completed', { takeOver: true });
    },

    'resolve can complete a record without an answer to keep': async (b) => {
      await b.lapsed();
      const answer = { kept: false, status: 201, reason: 'not_serialisable' } as const;
      assert.equal(await b.store.resolve(b.recordKey, { kind: 'completed', answer }, HOUR_MS), true);
      sameAnswer((await b.asks('completed')).record.answer, answer);
    },

    'resolve lets a record run again: same record, next attempt, no takeover': async (b) => {
      const first = await b.lapsed();
      assert.equal(await b.store.resolve(b.recordKey, RERUN, HOUR_MS), true);
      const view = await b.view();
      assert.equal(view.state, 'released');
      assert.equal(view.attempt, 1);
      const next = await b.claim();
      assert.equal(next.recordId, first.recordId);
      assert.equal(next.attempt, 2);
      assert.equal(next.tookOver, false);
    },

    'a resolved record ends after its retention, kept though it was': async (b) => {
      for (const resolution of [COMPLETED, RERUN]) {
        await b.lapsed({ keepAbandoned: true });
        assert.equal(await b.store.resolve(b.recordKey, resolution, SHORT_MS), true);
        await b.pass(SHORT_MS);
        assert.equal(await b.store.find(b.recordKey), undefined);
      }
    },

    'resolve is refused, and changes nothing, unless the record is abandoned': async (b) => {
      const calls = {
        completed: () => b.store.resolve(b.recordKey, COMPLETED, HOUR_MS),
        rerun: () => b.store.resolve(b.recordKey, RERUN, HOUR_MS),
      };
      await b.changesNothing(calls, false); // none
      const claim = await b.claim();
      await b.changesNothing(calls, false); // live
      assert.equal(await b.store.release(claim, { began: true }), 'written');
      await b.changesNothing(calls, false); // released
      await b.completed();
      await b.changesNothing(calls, false); // completed
    },

    'resolve is refused once the retention of an abandoned record is over': async (b) => {
      await b.lapsed({ keepAbandoned: false, retentionMs: SHORT_MS });
      await b.pass(SHORT_MS);
      await b.changesNothing({ resolve: () => b.store.resolve(b.recordKey, COMPLETED, HOUR_MS) }, false);
    },

    'the first resolve stays': async (b) => {
      await b.lapsed();
      assert.equal(await b.store.resolve(b.recordKey, COMPLETED, HOUR_MS), true);
      const again = { kind: 'completed', answer: textAnswer('settled twice') } as const;
      await b.changesNothing({ again: () => b.store.resolve(b.recordKey, again, DAY_MS) }, false);
      await b.changesNothing({ rerun: () => b.store.resolve(b.recordKey, RERUN, DAY_MS) }, false);
    },

    'a claim that comes back after its record was resolved as completed has lost it': async (b) => {
      const claim = await b.lapsed();
      await b.store.resolve(b.recordKey, COMPLETED, HOUR_MS);
      await b.changesNothing(b.writesOf(claim), 'lost');
    },

    'a run that abandoned its record, which was then resolved, has lost it': async (b) => {
      const claim = await b.claim();
      await b.store.abandon(claim, { began: true });
      await b.store.resolve(b.recordKey, COMPLETED, HOUR_MS);
      await b.changesNothing(b.writesOf(claim), 'lost');
    },

    'a claim that comes back after its record may run again has lost it': async (b) => {
      const claim = await b.lapsed();
      await b.store.resolve(b.recordKey, RERUN, HOUR_MS);
      const { renew, complete, 'release, not begun': undo } = b.writesOf(claim);
      await b.changesNothing({ renew, complete, undo }, 'lost');
      assert.equal((await b.claim()).attempt, 2);
    },

    'forget removes what is completed, released or abandoned; the key is then new': async (b) => {
      const ways = {
        completed: () => b.completed(),
        released: () => b.released(),
        lapsed: () => b.lapsed(),
        abandoned: async () => {
          const claim = await b.claim();
          await b.store.abandon(claim, { began: true });
          return claim;
        },
      };
      for (const [state, make] of Object.entries(ways)) {
        const old = await make();
        assert.equal(await (await b.other()).forget(b.recordKey), true, state);
        assert.equal(await b.store.find(b.recordKey), undefined, state);
        await b.changesNothing({ complete: () => b.store.complete(old, textAnswer('late'), HOUR_MS) }, 'lost');
        const claim = await b.claim({ fingerprint: `after ${state}` });
        assert.equal(claim.attempt, 1, state);
        assert.notEqual(claim.recordId, old.recordId, state);
        assert.equal(await b.store.release(claim, { began: false }), 'written');
      }
    },

    'forget does not touch a live claim': async (b) => {
      const claim = await b.claim();
      await b.changesNothing({ forget: () => b.store.forget(b.recordKey) }, false);
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
    },

    'forget without a record is false': async (b) => {
      assert.equal(await b.store.forget(b.recordKey), false);
      await b.completed();
      assert.equal(await b.store.forget(b.recordKey), true);
      assert.equal(await b.store.forget(b.recordKey), false);
    },
  },
};
