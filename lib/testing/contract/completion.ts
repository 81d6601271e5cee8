import assert from 'node:assert/strict';
import {
  DAY_MS,
  flat,
  HOUR_MS,
  LASTING_MS,
  MINUTE_MS,
  newRecordKey,
  sameAnswer,
  SHORT_MS,
  textAnswer,
  type CaseGroup,
} from './bench.js';

/** `complete`, and what may still happen to a completed record: nothing. */
export const completionCases: CaseGroup = {
  title: 'complete',
  cases: {
    'a live claim completes, and every client sees the answer': async (b) => {
      const claim = await b.claim();
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
      for (const store of [b.store, await b.other()]) {
        const view = await store.find(b.recordKey);
        assert.equal(view?.state, 'completed');
        assert.equal(view.recordId, claim.recordId);
        sameAnswer(view.answer, textAnswer('first'));
        sameAnswer((await b.asks('completed', {}, store)).record.answer, textAnswer('first'));
      }
    },

    'a claim completes through another client than the one that won it': async (b) => {
      const claim = await b.claim();
      assert.equal(await (await b.other()).complete(claim, textAnswer('first'), HOUR_MS), 'written');
      assert.equal((await b.view()).state, 'completed');
    },

    'a takeover completes as the attempt that it is': async (b) => {
      await b.lapsed();
      const claim = await b.claim({ takeOver: true });
      assert.equal(await b.store.complete(claim, textAnswer('second'), HOUR_MS), 'written');
      const { record } = await b.asks('completed');
      assert.equal(record.attempt, 2);
      assert.equal(record.fencingToken, claim.fencingToken);
      sameAnswer(record.answer, textAnswer('second'));
    },

    'complete repeated by the same claim is written, and the first answer stays': async (b) => {
      const claim = await b.completed();
      const calls = {
        'the same answer': () => b.store.complete(claim, textAnswer('first'), HOUR_MS),
        'another answer': () => b.store.complete(claim, textAnswer('second'), HOUR_MS),
        'an answer that is not kept': () =>
          b.store.complete(claim, { kept: false, status: 200, reason: 'too_large' }, HOUR_MS),
      };
      await b.changesNothing(calls, 'written');
      sameAnswer((await b.view()).answer, textAnswer('first'));
    },

    'complete repeated does not move the retention': async (b) => {
      const claim = await b.completed();
      await b.pass(SHORT_MS);
      await b.changesNothing({ again: () => b.store.complete(claim, textAnswer('first'), DAY_MS) }, 'written');
    },

    'complete repeated is written also after the lease would have ended': async (b) => {
      const claim = await b.claim();
      assert.equal(await b.store.renew(claim, LASTING_MS), 'written');
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
      await b.pass(LASTING_MS);
      await b.changesNothing({ again: () => b.store.complete(claim, textAnswer('second'), HOUR_MS) }, 'written');
      await b.asks('completed', { takeOver: true });
    },

    'a foreign token cannot complete a running record, nor pass for the one that did': async (b) => {
      const claim = await b.claim();
      const foreign = { recordKey: b.recordKey, claimToken: b.request().claimToken };
      const complete = () => b.store.complete(foreign, textAnswer('foreign'), HOUR_MS);
      await b.changesNothing({ 'while it runs': complete }, 'lost');
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
      await b.changesNothing({ 'once it has completed': complete }, 'lost');
    },

    'a completed record is changed by no other write of its own claim': async (b) => {
      const claim = await b.completed();
      const { complete: _repeat, ...writes } = b.writesOf(claim);
      await b.changesNothing(writes, 'lost');
    },

    'a completed record is changed by no write of a foreign claim': async (b) => {
      await b.completed();
      await b.changesNothing(b.writesOf(b.request()), 'lost');
    },

    'a completed record is changed by no claim': async (b) => {
      await b.completed();
      const before = flat(await b.view());
      const other = await b.other();
      for (const store of [b.store, other]) {
        await b.asks('completed', {}, store);
        await b.asks('completed', { takeOver: true, leaseMs: 1, retentionMs: 1, keepAbandoned: false }, store);
        await b.asks('reused', { fingerprint: 'fingerprint-2', takeOver: true }, store);
      }
      assert.deepEqual(flat(await b.view()), before);
    },

    'after a release the claim cannot complete': async (b) => {
      const claim = await b.released();
      await b.changesNothing({ complete: () => b.store.complete(claim, textAnswer('late'), HOUR_MS) }, 'lost');
    },

    'after it was abandoned the claim cannot complete': async (b) => {
      const claim = await b.claim();
      assert.equal(await b.store.abandon(claim, { began: true }), 'written');
      await b.changesNothing({ complete: () => b.store.complete(claim, textAnswer('late'), HOUR_MS) }, 'lost');
    },

    'find tells a live claim: its times, and neither answer nor end': async (b) => {
      const claim = await b.claim();
      const view = await b.view();
      assert.equal(view.recordKey, b.recordKey);
      assert.equal(view.recordId, claim.recordId);
      assert.equal(view.operation, 'POST /charges');
      assert.equal(view.fingerprint, 'fingerprint-1');
      assert.equal(view.state, 'in_progress');
      assert.equal(view.attempt, 1);
      assert.equal(view.createdAt.getTime(), view.claimedAt.getTime());
      const lease = view.leaseUntil.getTime() - view.claimedAt.getTime();
      assert.ok(Math.abs(lease - MINUTE_MS) <= 2, `the lease: ${lease} ms`);
      assert.deepEqual([view.completedAt, view.expiresAt, view.answer], [undefined, undefined, undefined]);
    },

    'find tells a completed record: when it completed, when it ends, its answer': async (b) => {
      await b.claim().then((claim) => b.store.complete(claim, textAnswer('first'), HOUR_MS));
      const { claimedAt, completedAt, expiresAt, answer } = await b.view();
      assert.ok(completedAt && completedAt >= claimedAt && completedAt.getTime() - claimedAt.getTime() < MINUTE_MS);
      assert.ok(expiresAt && Math.abs(expiresAt.getTime() - completedAt.getTime() - HOUR_MS) <= 2);
      sameAnswer(answer, textAnswer('first'));
    },

    'find without a record is undefined, and makes none': async (b) => {
      assert.equal(await b.store.find(newRecordKey()), undefined);
      assert.equal(await b.store.find(b.recordKey), undefined);
      assert.equal((await b.claim()).attempt, 1);
    },

    'find decides nothing: looking at a lapsed claim does not settle it': async (b) => {
      const claim = await b.lapsed();
      for (let look = 0; look < 3; look += 1) assert.equal((await b.view()).state, 'abandoned');
      assert.equal((await b.claim({ takeOver: true })).attempt, claim.attempt + 1);
    },
  },
};
