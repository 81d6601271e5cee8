import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  about,
  flat,
  HOUR_MS,
  MINUTE_MS,
  newRecordKey,
  sameAnswer,
  SHORT_MS,
  textAnswer,
  type CaseGroup,
} from './bench.js';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The eight rules of `claim`, in their order. */
export const claimCases: CaseGroup = {
  title: 'claim',
  cases: {
    'rule 1: a key without a record is claimed, as attempt 1 of a new record': async (b) => {
      const request = b.request();
      const claim = await b.claim(request);
      assert.equal(claim.recordKey, request.recordKey);
      assert.equal(claim.claimToken, request.claimToken);
      assert.equal(claim.attempt, 1);
      assert.equal(claim.tookOver, false);
      assert.match(claim.recordId, UUID);
      assert.ok(Number.isSafeInteger(claim.fencingToken) && claim.fencingToken > 0, 'a positive safe integer');
    },

    'rule 1: records of different keys have different ids, and do not touch each other': async (b) => {
      const first = await b.completed();
      const second = await b.claim({ recordKey: newRecordKey() });
      assert.notEqual(first.recordId, second.recordId);
      assert.equal((await b.view()).state, 'completed');
    },

    'rule 1: record keys are compared byte for byte': async (b) => {
      const lower = b.recordKey.toLowerCase();
      const upper = b.recordKey.toUpperCase();
      await b.claim({ recordKey: lower });
      await b.claim({ recordKey: upper });
      await b.asks('in_progress', { recordKey: lower });
    },

    'rule 1: once the retention is over the key is claimed as a new record, whatever its fingerprint': async (b) => {
      const old = await b.completed({ retentionMs: SHORT_MS });
      await b.pass(SHORT_MS);
      const claim = await b.claim({ fingerprint: 'fingerprint-2' });
      assert.notEqual(claim.recordId, old.recordId);
      assert.equal(claim.attempt, 1);
      assert.equal(claim.tookOver, false);
      const view = await b.view();
      assert.equal(view.fingerprint, 'fingerprint-2');
      assert.equal(view.answer, undefined);
    },

    'rule 2: a claim repeated with its own token is the same claim, and its lease is not moved': async (b) => {
      const request = b.request();
      const claim = await b.claim(request);
      const before = flat(await b.view());
      await b.pass(SHORT_MS);
      assert.deepEqual({ ...(await b.claim(request)) }, { ...claim });
      assert.deepEqual({ ...(await b.claim(request, await b.other())) }, { ...claim }, 'from another client');
      assert.deepEqual(flat(await b.view()), before);
    },

    'rule 2: a repeated takeover is the same takeover': async (b) => {
      await b.lapsed();
      const request = b.request({ takeOver: true });
      const claim = await b.claim(request);
      assert.equal(claim.tookOver, true);
      assert.deepEqual({ ...(await b.claim(request)) }, { ...claim });
    },

    'rule 2: a repeated claim of a released record is the same attempt': async (b) => {
      await b.released();
      const request = b.request();
      const claim = await b.claim(request);
      assert.deepEqual({ ...(await b.claim(request)) }, { ...claim });
      assert.equal(claim.attempt, 2);
    },

    'rule 2: holds for a live claim only: after the lease the own token is abandoned as well': async (b) => {
      const request = b.request();
      await b.lapse(await b.claim(request));
      await b.asks('abandoned', request);
    },

    'rule 2: after completion the own token is told so as well': async (b) => {
      const request = b.request();
      await b.completed(request);
      await b.asks('completed', request);
    },

    'rule 3: a released record is claimed again: same record, next attempt': async (b) => {
      const first = await b.released();
      const before = await b.view();
      const second = await b.claim();
      assert.equal(second.recordId, first.recordId);
      assert.equal(second.attempt, 2);
      assert.equal(second.tookOver, false);
      const view = await b.view();
      assert.equal(view.state, 'in_progress');
      assert.equal(view.createdAt.getTime(), before.createdAt.getTime());
      assert.ok(view.claimedAt >= before.claimedAt);
      assert.equal(await b.store.release(second, { began: true }), 'written');
      assert.equal((await b.claim()).attempt, 3);
    },

    'rule 4: a released record is claimed by another fingerprint as a new record': async (b) => {
      const first = await b.released();
      const second = await b.claim({ fingerprint: 'fingerprint-2' });
      assert.notEqual(second.recordId, first.recordId);
      assert.equal(second.attempt, 1);
      assert.equal((await b.view()).fingerprint, 'fingerprint-2');
      await b.asks('reused', { fingerprint: 'fingerprint-1' });
    },

    'rule 5: another fingerprint is refused while the first one runs, even with takeOver': async (b) => {
      const claim = await b.claim();
      const other = { fingerprint: 'fingerprint-2' };
      await b.changesNothing({ claim: async () => (await b.store.claim(b.request(other))).kind }, 'reused');
      await b.asks('reused', { ...other, takeOver: true });
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
    },

    'rule 5: another fingerprint is refused once the first one has completed': async (b) => {
      await b.completed();
      const other = { fingerprint: 'fingerprint-2' };
      await b.changesNothing({ claim: async () => (await b.store.claim(b.request(other))).kind }, 'reused');
    },

    'rule 5: another fingerprint cannot take over an abandoned record': async (b) => {
      await b.lapsed();
      const other = { fingerprint: 'fingerprint-2', takeOver: true };
      await b.changesNothing({ claim: async () => (await b.store.claim(b.request(other))).kind }, 'reused');
    },

    'rule 5: fingerprints are compared byte for byte, and an empty one is one like any other': async (b) => {
      await b.completed({ fingerprint: 'Abc' });
      for (const fingerprint of ['abc', 'Abc ', 'Ab', '']) await b.asks('reused', { fingerprint });
      await b.asks('completed', { fingerprint: 'Abc' });

      const unchecked = { recordKey: newRecordKey(), fingerprint: '' };
      await b.completed(unchecked);
      await b.asks('completed', unchecked);
      await b.asks('reused', { ...unchecked, fingerprint: 'Abc' });
    },

    'rule 6: a completed record is told with its answer, and how long it remains': async (b) => {
      const claim = await b.completed();
      for (const store of [b.store, await b.other()]) {
        const { record, remainingMs } = await b.asks('completed', {}, store);
        assert.equal(record.state, 'completed');
        assert.equal(record.recordId, claim.recordId);
        assert.equal(record.attempt, 1);
        sameAnswer(record.answer, textAnswer('first'));
        assert.ok(remainingMs > HOUR_MS - MINUTE_MS && remainingMs <= HOUR_MS, `${remainingMs} ms`);
      }
      await b.pass(SHORT_MS);
      const { remainingMs } = await b.asks('completed');
      assert.ok(remainingMs <= HOUR_MS - SHORT_MS, `${remainingMs} ms after ${SHORT_MS} ms`);
      if (b.exact) assert.equal(remainingMs, HOUR_MS - SHORT_MS);
    },

    'rule 6: takeOver does not touch a completed record': async (b) => {
      await b.completed();
      const claim = async () => (await b.store.claim(b.request({ takeOver: true }))).kind;
      await b.changesNothing({ claim }, 'completed');
    },

    'rule 7: a live claim is told with the time it has run and the time its lease has left': async (b) => {
      await b.claim();
      await b.pass(SHORT_MS);
      const { leaseRemainingMs, runningMs } = await b.asks('in_progress', {}, await b.other());
      assert.ok(runningMs >= SHORT_MS && runningMs < MINUTE_MS, `running for ${runningMs} ms`);
      about(runningMs + leaseRemainingMs, MINUTE_MS, 'both together are the lease');
      if (b.exact) assert.equal(runningMs, SHORT_MS);
    },

    'rule 7: the running time counts from the latest claim, and a renewal does not reset it': async (b) => {
      await b.released();
      await b.pass(200);
      const claim = await b.claim();
      await b.pass(SHORT_MS);
      await b.store.renew(claim, HOUR_MS);
      const { leaseRemainingMs, runningMs } = await b.asks('in_progress');
      const { claimedAt, leaseUntil } = await b.view();
      assert.ok(runningMs >= SHORT_MS);
      about(runningMs + leaseRemainingMs, leaseUntil.getTime() - claimedAt.getTime(), 'claim to end of lease');
      if (b.exact) assert.equal(runningMs, SHORT_MS);
    },

    'rule 7: takeOver does not touch a live claim': async (b) => {
      const claim = await b.claim();
      const again = async () => (await b.store.claim(b.request({ takeOver: true }))).kind;
      await b.changesNothing({ again }, 'in_progress');
      assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
    },

    'rule 8: an abandoned record is told, and stays, without takeOver': async (b) => {
      const claim = await b.lapsed();
      const { record } = await b.asks('abandoned', {}, await b.other());
      assert.equal(record.state, 'abandoned');
      assert.equal(record.recordId, claim.recordId);
      assert.equal(record.attempt, 1);
      assert.equal(record.answer, undefined);
      await b.changesNothing({ claim: async () => (await b.store.claim(b.request())).kind }, 'abandoned');
    },

    'rule 8: an abandoned record is claimed with takeOver: same record, next attempt': async (b) => {
      const first = await b.lapsed();
      const before = await b.view();
      const second = await b.claim({ takeOver: true }, await b.other());
      assert.equal(second.recordId, first.recordId);
      assert.equal(second.attempt, 2);
      assert.equal(second.tookOver, true);
      const view = await b.view();
      assert.equal(view.state, 'in_progress');
      assert.equal(view.createdAt.getTime(), before.createdAt.getTime());
      assert.ok(view.claimedAt > before.claimedAt);
      await b.asks('in_progress', { takeOver: true });
    },

    'rule 8: takeOver unless kept claims what would end by itself, and nothing that is kept': async (b) => {
      const first = await b.lapsed({ keepAbandoned: false });
      const second = await b.claim({ takeOver: 'unless_kept', keepAbandoned: true }, await b.other());
      assert.deepEqual([second.recordId, second.attempt, second.tookOver], [first.recordId, 2, true]);
      await b.lapse(second);
      const ask = async () => (await b.store.claim(b.request({ takeOver: 'unless_kept' }))).kind;
      await b.changesNothing({ claim: ask }, 'abandoned');
      assert.equal((await b.claim({ takeOver: true })).attempt, 3);
    },

    'rule 8: takeOver unless kept touches neither a live claim nor another fingerprint': async (b) => {
      const claim = await b.claim({ keepAbandoned: false });
      await b.asks('in_progress', { takeOver: 'unless_kept' });
      await b.lapse(claim);
      await b.asks('reused', { takeOver: 'unless_kept', fingerprint: 'fingerprint-2' });
      assert.equal((await b.view()).attempt, 1);
    },

    'rule 8: a lapsed claim may take its own record over with its own token': async (b) => {
      const request = b.request({ takeOver: true });
      await b.lapse(await b.claim(request));
      const again = await b.claim(request);
      assert.equal(again.attempt, 2);
      assert.equal(again.tookOver, true);
    },

    'a claim of an existing record brings its own lease and operation': async (b) => {
      await b.released({ leaseMs: MINUTE_MS });
      await b.claim({ leaseMs: HOUR_MS, operation: 'POST /payments', claimToken: randomUUID() });
      const view = await b.view();
      about(view.leaseUntil.getTime() - view.claimedAt.getTime(), HOUR_MS, 'the lease');
      assert.equal(view.operation, 'POST /payments');
    },
  },
};
