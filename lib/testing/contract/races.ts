import assert from 'node:assert/strict';
import type { Claim } from '../../core/record.js';
import type { ClaimRequest, ClaimResult, IdempotencyStore } from '../../core/store.js';
import {
  count,
  HOUR_MS,
  newRecordKey,
  sameAnswer,
  SHORT_MS,
  sleep,
  textAnswer,
  type Bench,
  type CaseGroup,
} from './bench.js';

const ROUNDS = 10;

/** `n` claims at once, each with a token of its own, by turns on two clients. */
async function claims(b: Bench, n: number, changes?: Partial<ClaimRequest>): Promise<ClaimResult[]> {
  const stores = [b.store, await b.other()];
  return Promise.all(Array.from({ length: n }, (_, i) => stores[i % 2]!.claim(b.request(changes))));
}

async function oneWins(b: Bench, n: number, changes?: Partial<ClaimRequest>): Promise<Claim> {
  const results = await claims(b, n, changes);
  assert.deepEqual(count(results), { claimed: 1, in_progress: n - 1 });
  const winner = results.find((result) => result.kind === 'claimed');
  assert.ok(winner);
  assert.equal(await b.store.complete(winner.claim, textAnswer('first'), HOUR_MS), 'written', 'the winner holds it');
  return winner.claim;
}

/**
 * Lets `write` and a takeover meet at the end of a lease: on a fake clock just after it, else
 * anywhere around it. `check` is told who got through, and the claim that took over, if one did.
 */
async function atTheEndOfALease(
  b: Bench,
  write: (store: IdempotencyStore, claim: Claim) => Promise<unknown>,
  check: (written: unknown, taken: ClaimResult, recordKey: string) => Promise<void>,
): Promise<void> {
  const other = await b.other();
  for (let round = 0; round < ROUNDS; round += 1) {
    const recordKey = newRecordKey();
    const claim = await b.claim({ recordKey });
    assert.equal(await b.store.renew(claim, 5), 'written');
    if (b.exact) await b.pass(5);
    else await sleep(round % 8);
    const [written, taken] = await Promise.all([
      write(b.store, claim),
      other.claim(b.request({ recordKey, takeOver: true })),
    ]);
    await check(written, taken, recordKey);
  }
}

/** Calls that meet. What may come out of each meeting is laid down; in which order they meet is not. */
export const raceCases: CaseGroup = {
  title: 'races',
  cases: {
    'of 100 claims of a new key one wins': async (b) => {
      assert.equal((await oneWins(b, 100)).attempt, 1);
    },

    'of 50 claims of a released record one wins': async (b) => {
      await b.released();
      assert.equal((await oneWins(b, 50)).attempt, 2);
    },

    'of 50 takeovers of an abandoned record one wins': async (b) => {
      await b.lapsed();
      const claim = await oneWins(b, 50, { takeOver: true });
      assert.equal(claim.attempt, 2);
      assert.equal(claim.tookOver, true);
    },

    'of 50 claims after a retention one wins': async (b) => {
      await b.completed({ retentionMs: SHORT_MS });
      await b.pass(SHORT_MS);
      assert.equal((await oneWins(b, 50)).attempt, 1);
    },

    'of claims with different fingerprints one wins, and none of another runs': async (b) => {
      const results = await Promise.all(
        Array.from({ length: 40 }, (_, i) => b.store.claim(b.request({ fingerprint: `fingerprint-${i % 4}` }))),
      );
      assert.deepEqual(count(results), { claimed: 1, in_progress: 9, reused: 30 });
    },

    '20 repeats of one claim at once are one claim': async (b) => {
      const request = b.request();
      const other = await b.other();
      const results = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 ? b.store : other).claim(request)));
      assert.deepEqual(count(results), { claimed: 20 });
      const distinct = new Set(
        results.map((result) => {
          assert.ok(result.kind === 'claimed');
          const { attempt, fencingToken, recordId, claimToken, tookOver } = result.claim;
          return [attempt, fencingToken, recordId, claimToken, tookOver].join();
        }),
      );
      assert.equal(distinct.size, 1, 'the same attempt, record id and fencing token');
    },

    'claims of 100 keys at once do not touch each other': async (b) => {
      const keys = Array.from({ length: 100 }, newRecordKey);
      const held = await Promise.all(keys.map((recordKey) => b.claim({ recordKey })));
      await Promise.all(held.map((claim) => b.store.complete(claim, textAnswer(claim.recordKey), HOUR_MS)));
      const views = await Promise.all(keys.map((recordKey) => b.view(recordKey)));
      for (const view of views) sameAnswer(view.answer, textAnswer(view.recordKey));
    },

    'the fencing token increases from attempt to attempt, whoever makes it': async (b) => {
      const seen: Claim[] = [];
      const worker = async (store: IdempotencyStore) => {
        while (seen.length < 40) {
          const result = await store.claim(b.request());
          if (result.kind !== 'claimed') continue;
          seen.push(result.claim);
          assert.equal(await store.release(result.claim, { began: true }), 'written');
        }
      };
      await Promise.all([worker(b.store), worker(await b.other()), worker(b.store)]);
      const inOrder = seen.toSorted((x, y) => x.attempt - y.attempt);
      for (const [i, claim] of inOrder.entries()) {
        assert.equal(claim.attempt, i + 1, 'each attempt is made once');
        if (i > 0) assert.ok(claim.fencingToken > inOrder[i - 1]!.fencingToken, 'and its fencing token is greater');
      }
    },

    'complete and takeover: never both': (b) =>
      atTheEndOfALease(
        b,
        (store, claim) => store.complete(claim, textAnswer('first'), HOUR_MS),
        async (written, taken, recordKey) => {
          if (taken.kind === 'claimed') {
            assert.equal(written, 'lost');
            assert.equal(taken.claim.attempt, 2);
            assert.equal((await b.view(recordKey)).state, 'in_progress');
          } else if (written === 'written') {
            sameAnswer((await b.view(recordKey)).answer, textAnswer('first'));
          }
          if (b.exact) assert.equal(taken.kind, 'claimed');
        },
      ),

    'renew and takeover: never both': (b) =>
      atTheEndOfALease(
        b,
        (store, claim) => store.renew(claim, HOUR_MS),
        async (written, taken, recordKey) => {
          if (taken.kind === 'claimed') assert.equal(written, 'lost');
          const { state, attempt, fencingToken } = await b.view(recordKey);
          if (written === 'written') assert.deepEqual([taken.kind, state, attempt], ['in_progress', 'in_progress', 1]);
          if (taken.kind === 'claimed') assert.deepEqual([attempt, fencingToken], [2, taken.claim.fencingToken]);
          if (b.exact) assert.equal(taken.kind, 'claimed');
        },
      ),

    'an undo and a takeover leave the one who claimed in possession': (b) =>
      atTheEndOfALease(
        b,
        (store, claim) => store.release(claim, { began: false }),
        async (_undone, taken, recordKey) => {
          if (taken.kind === 'in_progress') return; // asked before the lease had ended
          assert.equal(taken.kind, 'claimed');
          const view = await b.view(recordKey);
          assert.equal(view.state, 'in_progress');
          assert.equal(view.fencingToken, taken.claim.fencingToken);
          assert.equal(await b.store.complete(taken.claim, textAnswer('second'), HOUR_MS), 'written');
        },
      ),

    'several completes of one claim: all are written, one answer stays': async (b) => {
      const claim = await b.claim();
      const stores = [b.store, await b.other()];
      const results = await Promise.all(
        Array.from({ length: 10 }, (_, i) => stores[i % 2]!.complete(claim, textAnswer(`answer ${i}`), HOUR_MS)),
      );
      assert.deepEqual(new Set(results), new Set(['written']));
      const { answer } = await b.view();
      assert.ok(answer?.kept === true);
      assert.match(Buffer.from(answer.body).toString(), /^answer \d$/);
      await b.store.complete(claim, textAnswer('another'), HOUR_MS);
      sameAnswer((await b.view()).answer, answer);
    },

    'complete and release by one claim: one of them is written': async (b) => {
      const other = await b.other();
      for (let round = 0; round < ROUNDS; round += 1) {
        const recordKey = newRecordKey();
        const claim = await b.claim({ recordKey });
        const complete = () => b.store.complete(claim, textAnswer('first'), HOUR_MS);
        const release = () => other.release(claim, { began: true });
        const results = await Promise.all(round % 2 ? [complete(), release()] : [release(), complete()]);
        assert.deepEqual(results.toSorted(), ['lost', 'written']);
        const completed = results[round % 2 ? 0 : 1] === 'written';
        assert.equal((await b.view(recordKey)).state, completed ? 'completed' : 'released');
      }
    },

    'forget and claim: a claim that won is not forgotten': async (b) => {
      const other = await b.other();
      for (let round = 0; round < ROUNDS; round += 1) {
        const recordKey = newRecordKey();
        await b.completed({ recordKey });
        const calls = [
          b.store.forget(recordKey),
          ...claimTwice(b, other, recordKey),
          b.store.forget(recordKey),
        ] as const;
        const [forgotten, first, second, again] = await Promise.all(calls);
        assert.ok(forgotten !== again, 'the completed record is forgotten once, and the live claim never');
        const winners = [first, second].filter((result) => result.kind === 'claimed');
        assert.ok(winners.length <= 1);
        for (const winner of winners) {
          assert.equal(await b.store.complete(winner.claim, textAnswer('second'), HOUR_MS), 'written');
        }
      }
    },

    'resolve and takeover: never both': async (b) => {
      const other = await b.other();
      for (let round = 0; round < ROUNDS; round += 1) {
        const recordKey = newRecordKey();
        await b.lapsed({ recordKey });
        const resolve = () => b.store.resolve(recordKey, { kind: 'completed', answer: textAnswer('settled') }, HOUR_MS);
        const takeOver = () => other.claim(b.request({ recordKey, takeOver: true }));
        const first = round % 2 ? resolve() : takeOver();
        const second = round % 2 ? takeOver() : resolve();
        const results = await Promise.all([first, second]);
        const resolved = results.find((result) => typeof result === 'boolean');
        const taken = results.find((result) => typeof result === 'object');
        assert.equal(taken?.kind, resolved ? 'completed' : 'claimed');
      }
    },

    'of two resolves one settles': async (b) => {
      await b.lapsed();
      const other = await b.other();
      const answers = [textAnswer('one'), textAnswer('two')];
      const results = await Promise.all([
        b.store.resolve(b.recordKey, { kind: 'completed', answer: answers[0]! }, HOUR_MS),
        other.resolve(b.recordKey, { kind: 'completed', answer: answers[1]! }, HOUR_MS),
      ]);
      assert.notEqual(results[0], results[1]);
      sameAnswer((await b.view()).answer, answers[results.indexOf(true)]!);
    },

    'purge beside claims removes none that is live': async (b) => {
      const other = await b.other();
      const keys = Array.from({ length: 30 }, newRecordKey);
      for (const recordKey of keys) await b.completed({ recordKey, retentionMs: SHORT_MS });
      await b.pass(SHORT_MS);
      const [held] = await Promise.all([
        Promise.all(keys.map((recordKey) => b.claim({ recordKey, retentionMs: 1, keepAbandoned: false }))),
        ...Array.from({ length: 10 }, (_, i) => (i % 2 ? b.store : other).purge(10)),
      ]);
      await b.store.purge(1_000);
      for (const claim of held) {
        assert.equal((await b.view(claim.recordKey)).state, 'in_progress');
        assert.equal(await b.store.complete(claim, textAnswer('second'), HOUR_MS), 'written');
      }
    },
  },
};

function claimTwice(
  b: Bench,
  other: IdempotencyStore,
  recordKey: string,
): [Promise<ClaimResult>, Promise<ClaimResult>] {
  return [other.claim(b.request({ recordKey })), b.store.claim(b.request({ recordKey }))];
}
