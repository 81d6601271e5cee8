import assert from 'node:assert/strict';
import type { RecordView } from '../../core/record.js';
import { HOUR_MS, MINUTE_MS, newRecordKey, SHORT_MS, textAnswer, type Bench, type CaseGroup } from './bench.js';

/** What a claim that is undone must leave as it was. When the latest claim was won is not part of it. */
function essence({ state, recordId, attempt, fingerprint, operation, createdAt }: RecordView): object {
  return { state, recordId, attempt, fingerprint, operation, createdAt: createdAt.getTime() };
}

/** Claims, undoes the claim (after its lease where `late`), and hands over the record from before and after. */
async function undo(b: Bench, { late = false, takeOver = false } = {}): Promise<void> {
  const before = await b.view();
  const claim = await b.claim({ takeOver });
  assert.equal(claim.attempt, before.attempt + 1);
  if (late) await b.lapse(claim);
  assert.equal(await b.store.release(claim, { began: false }), 'written');
  assert.deepEqual(essence(await b.view()), essence(before));
  const { 'release, not begun': repeat, renew, complete } = b.writesOf(claim);
  assert.equal(await repeat(), 'written', 'a repeated undo');
  assert.deepEqual(essence(await b.view()), essence(before), 'after a repeated undo');
  assert.equal(await renew(), 'lost');
  assert.equal(await complete(), 'lost');
  assert.deepEqual(essence(await b.view()), essence(before), 'after writes of the undone claim');
}

/** A claim whose reply was lost until its lease had ended, and the one that took it over, to which the same happened. */
async function undoTwoInARow(b: Bench): Promise<void> {
  const before = await b.view();
  const first = await b.lapsed({ takeOver: true });
  const second = await b.claim({ takeOver: true });
  for (const claim of [second, first]) assert.equal(await b.store.release(claim, { began: false }), 'written');
  assert.deepEqual(essence(await b.view()), essence(before));
}

/** `release` and `abandon`. */
export const givingBackCases: CaseGroup = {
  title: 'release and abandon',
  cases: {
    'a release after the run counts the attempt, and the next claim runs at once': async (b) => {
      const claim = await b.claim();
      assert.equal(await (await b.other()).release(claim, { began: true }), 'written');
      const view = await b.view();
      assert.equal(view.state, 'released');
      assert.equal(view.attempt, 1);
      assert.equal(view.answer, undefined);
      assert.equal(view.completedAt, undefined);
      assert.equal((await b.claim()).attempt, 2);
    },

    'a release repeated is written, and releases nothing more': async (b) => {
      const claim = await b.released();
      await b.changesNothing({ release: () => b.store.release(claim, { began: true }) }, 'written');
      assert.equal((await b.claim()).attempt, 2);
    },

    'after a release the claim can neither renew nor abandon': async (b) => {
      const claim = await b.released();
      const { renew, 'abandon, began': abandon } = b.writesOf(claim);
      await b.changesNothing({ renew, abandon }, 'lost');
      assert.equal((await b.claim()).attempt, 2);
    },

    'a release after the run is lost once the lease is over': async (b) => {
      const claim = await b.lapsed();
      await b.changesNothing({ release: () => b.store.release(claim, { began: true }) }, 'lost');
      await b.asks('abandoned');
    },

    'a release without a run leaves no record where there was none': async (b) => {
      const claim = await b.claim();
      assert.equal(await b.store.release(claim, { began: false }), 'written');
      assert.equal(await b.store.find(b.recordKey), undefined);
      assert.equal(await b.store.release(claim, { began: false }), 'written', 'and again');
      assert.equal(await b.store.renew(claim, HOUR_MS), 'lost');
      assert.equal(await b.store.complete(claim, textAnswer('undone'), HOUR_MS), 'lost');
      assert.equal(await b.store.find(b.recordKey), undefined);
      const next = await b.claim({ fingerprint: 'fingerprint-2' });
      assert.equal(next.attempt, 1);
      assert.equal(next.tookOver, false);
    },

    'a release without a run leaves a released record as it was': async (b) => {
      const first = await b.released();
      await undo(b);
      const next = await b.claim();
      assert.equal(next.attempt, 2);
      assert.equal(next.recordId, first.recordId);
    },

    'a release without a run leaves an abandoned record abandoned': async (b) => {
      const first = await b.lapsed();
      await undo(b, { takeOver: true });
      await b.asks('abandoned');
      const next = await b.claim({ takeOver: true });
      assert.equal(next.attempt, 2);
      assert.equal(next.tookOver, true);
      assert.equal(next.recordId, first.recordId);
    },

    'a release without a run leaves a record that a run abandoned itself abandoned': async (b) => {
      await b.store.abandon(await b.claim(), { began: true });
      await undo(b, { takeOver: true });
      await b.asks('abandoned');
    },

    'an abandoned record that was kept is kept after an undone takeover as well': async (b) => {
      await b.lapsed({ keepAbandoned: true, retentionMs: SHORT_MS });
      const claim = await b.claim({ takeOver: true, retentionMs: SHORT_MS });
      assert.equal(await b.store.release(claim, { began: false }), 'written');
      await b.pass(2 * SHORT_MS);
      await b.store.purge(1_000);
      assert.equal((await b.view()).state, 'abandoned');
    },

    'a release without a run over another fingerprint lets either fingerprint run': async (b) => {
      for (const fingerprint of ['fingerprint-1', 'fingerprint-2']) {
        await b.store.release(await b.claim({ fingerprint: 'fingerprint-1' }), { began: true });
        const claim = await b.claim({ fingerprint: 'fingerprint-2' });
        assert.equal(await b.store.release(claim, { began: false }), 'written');
        const next = await b.claim({ fingerprint });
        assert.equal(await b.store.release(next, { began: true }), 'written');
      }
    },

    'a release without a run is by token only: after the lease it leaves no record': async (b) => {
      const claim = await b.lapsed();
      assert.equal(await b.store.release(claim, { began: false }), 'written');
      assert.equal(await b.store.find(b.recordKey), undefined);
      assert.equal((await b.claim()).attempt, 1);
    },

    'a release without a run after the lease leaves a released record as it was': async (b) => {
      await b.released();
      await undo(b, { late: true });
      assert.equal((await b.claim()).attempt, 2);
    },

    'a release without a run after the lease leaves an abandoned record abandoned': async (b) => {
      await b.lapsed();
      await undo(b, { late: true, takeOver: true });
      await b.asks('abandoned');
    },

    'two takeovers in a row that are undone leave an abandoned record as it was': async (b) => {
      const run = await b.lapsed();
      await undoTwoInARow(b);
      await b.asks('abandoned');
      const next = await b.claim({ takeOver: true });
      assert.deepEqual([next.attempt, next.tookOver, next.recordId], [2, true, run.recordId]);
    },

    'two claims in a row that are undone leave a released record as it was': async (b) => {
      const run = await b.released();
      await undoTwoInARow(b);
      const next = await b.claim();
      assert.deepEqual([next.attempt, next.tookOver, next.recordId], [2, false, run.recordId]);
    },

    'two claims in a row that are undone leave no record where there was none': async (b) => {
      const first = await b.lapsed();
      const second = await b.claim({ takeOver: true });
      assert.equal(second.tookOver, true);
      for (const claim of [second, first]) assert.equal(await b.store.release(claim, { began: false }), 'written');
      assert.equal(await b.store.find(b.recordKey), undefined);
      assert.equal((await b.claim()).attempt, 1);
    },

    'a release without a run under a foreign token is lost, also after the lease': async (b) => {
      const claim = await b.claim();
      const foreign = { recordKey: b.recordKey, claimToken: b.request().claimToken };
      const release = () => b.store.release(foreign, { began: false });
      await b.changesNothing({ live: release }, 'lost');
      await b.lapse(claim);
      await b.changesNothing({ lapsed: release }, 'lost');
    },

    'an abandoned run ends the lease at once, and its outcome is unknown': async (b) => {
      const claim = await b.claim({ leaseMs: HOUR_MS });
      assert.equal(await (await b.other()).abandon(claim, { began: true }), 'written');
      const view = await b.view();
      assert.equal(view.state, 'abandoned');
      assert.equal(view.attempt, 1);
      assert.equal(view.answer, undefined);
      assert.ok(view.leaseUntil.getTime() - view.claimedAt.getTime() < MINUTE_MS, 'the lease has ended');
      await b.asks('abandoned');
      const next = await b.claim({ takeOver: true });
      assert.equal(next.attempt, 2);
      assert.equal(next.recordId, claim.recordId);
    },

    'an abandoned run that did not begin is not counted': async (b) => {
      assert.equal(await b.store.abandon(await b.claim(), { began: false }), 'written');
      assert.equal((await b.view()).state, 'abandoned');
      await b.asks('abandoned');
      const first = await b.claim({ takeOver: true });
      assert.equal(first.attempt, 1);
      assert.equal(first.tookOver, true);

      await b.lapse(first);
      assert.equal(await b.store.abandon(await b.claim({ takeOver: true }), { began: false }), 'written');
      assert.equal((await b.view()).attempt, 1);
      assert.equal((await b.claim({ takeOver: true })).attempt, 2);
    },

    'an abandoned run that says keep stays until it is settled, whatever its claim said': async (b) => {
      for (const began of [true, false]) {
        const recordKey = newRecordKey();
        const unkept = { recordKey, keepAbandoned: false, takeOver: 'unless_kept', retentionMs: SHORT_MS } as const;
        assert.equal(await b.store.abandon(await b.claim(unkept), { began, keep: true }), 'written');
        await b.pass(2 * SHORT_MS);
        await b.store.purge(1_000);
        const view = await b.view(recordKey);
        assert.deepEqual([view.state, view.expiresAt], ['abandoned', undefined]);
        await b.asks('abandoned', unkept, await b.other());
        assert.equal(await b.store.resolve(recordKey, { kind: 'rerun' }, HOUR_MS), true);
        assert.equal((await b.claim(unkept)).attempt, began ? 2 : 1);
      }
    },

    'an abandoned run that does not say keep is as its claim said': async (b) => {
      const unkept = { keepAbandoned: false, takeOver: 'unless_kept' } as const;
      await b.store.abandon(await b.claim(unkept), { began: true, keep: false });
      assert.ok((await b.view()).expiresAt);
      await b.store.abandon(await b.claim({ ...unkept, keepAbandoned: true }), { began: true, keep: false });
      assert.equal((await b.view()).expiresAt, undefined);
      await b.asks('abandoned', unkept);
    },

    'a kept run is kept after an undone takeover as well, and no longer once it was taken over': async (b) => {
      const unkept = { keepAbandoned: false, retentionMs: SHORT_MS } as const;
      await b.store.abandon(await b.claim(unkept), { began: true, keep: true });
      assert.equal(await b.store.release(await b.claim({ ...unkept, takeOver: true }), { began: false }), 'written');
      await b.pass(2 * SHORT_MS);
      await b.store.purge(1_000);
      await b.asks('abandoned', { takeOver: 'unless_kept' });

      await b.lapsed({ keepAbandoned: false, takeOver: true });
      assert.equal((await b.claim({ takeOver: 'unless_kept' })).attempt, 3);
    },

    'abandon repeated is written, and counts once': async (b) => {
      for (const began of [true, false]) {
        const claim = await b.claim({ takeOver: true });
        assert.equal(await b.store.abandon(claim, { began }), 'written');
        await b.changesNothing({ abandon: () => b.store.abandon(claim, { began }) }, 'written');
      }
      assert.equal((await b.view()).attempt, 1);
    },

    'after it was abandoned the claim can neither renew nor release': async (b) => {
      const claim = await b.claim();
      await b.store.abandon(claim, { began: true });
      const { 'abandon, began': _again, 'abandon, not begun': _nor, ...writes } = b.writesOf(claim);
      await b.changesNothing(writes, 'lost');
      await b.asks('abandoned');
    },

    'abandon of a run is lost once the lease is over': async (b) => {
      const claim = await b.lapsed();
      await b.changesNothing({ abandon: () => b.store.abandon(claim, { began: true }) }, 'lost');
    },
  },
};
