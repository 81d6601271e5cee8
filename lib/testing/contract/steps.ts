import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { ClaimRef } from '../../core/record.js';
import type { StepLog } from '../../core/step-log.js';
import type { IdempotencyStore } from '../../core/store.js';
import {
  about,
  flat,
  HOUR_MS,
  LASTING_MS,
  MINUTE_MS,
  newRecordKey,
  SHORT_MS,
  sleep,
  type Bench,
  type CaseGroup,
} from './bench.js';
import { latin1, texts, WAYS_TO_END, WAYS_TO_LOSE } from './stream-kit.js';

const RESULTS: Readonly<Record<string, () => Uint8Array>> = {
  'an empty result': () => new Uint8Array(0),
  'a result of all 256 byte values': () => Uint8Array.from({ length: 256 }, (_, byte) => byte),
  'a result that is no valid UTF-8': () => Uint8Array.from([0xff, 0xfe, 0xc3, 0x28, 0x00]),
  'a result in a slice of a larger buffer': () => Buffer.from('....{"a":1}....').subarray(4, 11),
  'a result of 1 MiB': () => randomBytes(1024 * 1024),
};

const NAMES: readonly string[] = [
  'charge',
  'Charge',
  'charge ',
  'outer/inner',
  'größe 日本語 😀',
  `it's "quoted" \\ {x}:*?$1`,
  'a\tb\nc',
  '__proto__',
  'constructor',
  '0',
  Array.from({ length: 5 }, () => 'ä'.repeat(200)).join('/'),
];

const ROUNDS = 50;

function stepsOf(store: IdempotencyStore): StepLog {
  assert.ok(store.steps, 'the store keeps steps');
  return store.steps;
}

async function save(b: Bench, claim: ClaimRef, name: string, result: string, leaseMs = MINUTE_MS): Promise<unknown> {
  return stepsOf(b.store).save(claim, name, texts(result)[0]!, leaseMs);
}

/** Insists that the claim's record has these steps, and no other, whoever asks. */
async function hasSteps(b: Bench, claim: ClaimRef, expected: Readonly<Record<string, string>>): Promise<void> {
  for (const store of [b.store, await b.other()]) {
    const steps = await stepsOf(store).load(claim);
    const found = [...steps].map(([name, result]): [string, string] => [name, latin1(result)]);
    const byName = ([a]: [string, string], [b]: [string, string]): number => (a < b ? -1 : 1);
    assert.deepEqual(found.toSorted(byName), Object.entries(expected).toSorted(byName));
  }
}

/** `save` and `load`. */
export const stepCases: CaseGroup = {
  title: 'steps',
  needs: 'steps',
  cases: {
    'a record without steps has none': (b) => b.claim().then((claim) => hasSteps(b, claim, {})),

    ...Object.fromEntries(
      Object.entries(RESULTS).map(([what, make]) => [
        `${what} is kept byte for byte`,
        async (b: Bench) => {
          const claim = await b.claim();
          const result = make();
          assert.equal(await stepsOf(b.store).save(claim, 'step', result, MINUTE_MS), 'written');
          await hasSteps(b, claim, { step: latin1(result) });
        },
      ]),
    ),

    'names are kept and compared as they are': async (b) => {
      const claim = await b.claim();
      for (const [i, name] of NAMES.entries()) assert.equal(await save(b, claim, name, `result ${i}`), 'written');
      const expected = NAMES.map((name, i): [string, string] => [name, `result ${i}`]);
      await hasSteps(b, claim, Object.fromEntries(expected));
      assert.equal((await stepsOf(b.store).load(claim)).get('__proto__')?.byteLength, 'result 7'.length);
    },

    '200 steps, saved at once through two clients, are all kept': async (b) => {
      const stores = [b.store, await b.other()];
      const claim = await b.claim();
      const names = Array.from({ length: 200 }, (_, i) => `step ${i}`);
      await Promise.all(
        names.map((name, i) => stepsOf(stores[i % 2]!).save(claim, name, texts(`of ${name}`)[0]!, MINUTE_MS)),
      );
      await hasSteps(b, claim, Object.fromEntries(names.map((name) => [name, `of ${name}`])));
    },

    'the first result of a name stays; a repetition is written, and changes nothing': async (b) => {
      const claim = await b.claim();
      assert.equal(await save(b, claim, 'step', 'first'), 'written');
      for (const result of ['first', 'a longer second', '']) {
        assert.equal(await save(b, claim, 'step', result), 'written');
        await hasSteps(b, claim, { step: 'first' });
      }
    },

    'an empty first result stays as well': async (b) => {
      const claim = await b.claim();
      assert.equal(await save(b, claim, 'step', ''), 'written');
      assert.equal(await save(b, claim, 'step', 'second'), 'written');
      await hasSteps(b, claim, { step: '' });
    },

    'of several results of a name at once one stays, and all are written': async (b) => {
      const stores = [b.store, await b.other()];
      const claim = await b.claim();
      const results = await Promise.all(
        Array.from({ length: 10 }, (_, i) =>
          stepsOf(stores[i % 2]!).save(claim, 'step', texts(`result ${i}`)[0]!, MINUTE_MS),
        ),
      );
      assert.deepEqual(new Set(results), new Set(['written']));
      const kept = latin1((await stepsOf(b.store).load(claim)).get('step')!);
      assert.match(kept, /^result \d$/);
      await hasSteps(b, claim, { step: kept });
    },

    'a save sets the lease to end that long from now': async (b) => {
      const claim = await b.claim({ leaseMs: LASTING_MS });
      assert.equal(await save(b, claim, 'step', 'first', MINUTE_MS), 'written');
      await b.pass(LASTING_MS);
      const { leaseRemainingMs } = await b.asks('in_progress');
      assert.ok(leaseRemainingMs <= MINUTE_MS - LASTING_MS, `${leaseRemainingMs} ms`);
      assert.equal(await save(b, claim, 'another', 'first', SHORT_MS), 'written', 'it can shorten it');
      await b.pass(SHORT_MS);
      await b.asks('abandoned');
    },

    // Whoever repeats a write counts its lease from the repetition: it must not believe in one that is over.
    'a repeated save moves the lease, as its reply says': async (b) => {
      const claim = await b.claim();
      assert.equal(await save(b, claim, 'step', 'first'), 'written');
      assert.equal(await save(b, claim, 'step', 'first', HOUR_MS), 'written');
      about((await b.asks('in_progress')).leaseRemainingMs, HOUR_MS, 'the lease', MINUTE_MS / 2);
    },

    'a save under a foreign token is lost, and saves nothing': async (b) => {
      const claim = await b.claim();
      const elsewhere = await b.claim({ recordKey: newRecordKey() });
      assert.equal(await save(b, claim, 'known', 'first'), 'written');
      for (const { claimToken } of [b.request(), elsewhere]) {
        const foreign = { recordKey: b.recordKey, claimToken };
        const calls = {
          new: () => save(b, foreign, 'new', 'foreign', HOUR_MS),
          known: () => save(b, foreign, 'known', 'foreign', HOUR_MS),
        };
        await b.changesNothing(calls, 'lost');
        await hasSteps(b, foreign, {});
      }
      await hasSteps(b, claim, { known: 'first' });
    },

    'a save without a record is lost, and makes none': async (b) => {
      await b.changesNothing({ save: () => save(b, b.request(), 'step', 'first') }, 'lost');
      await hasSteps(b, b.request(), {});
    },

    ...Object.fromEntries(
      Object.entries(WAYS_TO_LOSE).map(([way, lose]) => [
        `a claim can neither save nor load once ${way}`,
        async (b: Bench) => {
          const claim = await b.claim();
          assert.equal(await save(b, claim, 'known', 'first'), 'written');
          await lose(b, claim);
          const before = flat(await b.store.find(b.recordKey));
          assert.equal(await save(b, claim, 'new', 'late', HOUR_MS), 'lost');
          assert.equal(await save(b, claim, 'known', 'late', HOUR_MS), 'lost');
          await hasSteps(b, claim, {});
          assert.deepEqual(flat(await b.store.find(b.recordKey)), before);
        },
      ]),
    ),

    'steps are kept over attempts: releases, crashes, abandoned runs, undone claims': async (b) => {
      const first = await b.claim();
      assert.equal(await save(b, first, 'one', '1'), 'written');
      assert.equal(await b.store.release(first, { began: true }), 'written');

      const second = await b.claim({}, await b.other());
      await hasSteps(b, second, { one: '1' });
      assert.equal(await save(b, second, 'one', 'again'), 'written');
      assert.equal(await save(b, second, 'two', '2'), 'written');
      await b.lapse(second);
      assert.equal(await save(b, second, 'late', 'late'), 'lost');

      const undone = await b.claim({ takeOver: true });
      await hasSteps(b, undone, { one: '1', two: '2' });
      assert.equal(await b.store.release(undone, { began: false }), 'written');

      const third = await b.claim({ takeOver: true });
      assert.equal(third.recordId, first.recordId);
      await hasSteps(b, third, { one: '1', two: '2' });
      assert.equal(await save(b, third, 'three', '3'), 'written');
      assert.equal(await b.store.abandon(third, { began: true }), 'written');

      const uncounted = await b.claim({ takeOver: true });
      assert.equal(await b.store.abandon(uncounted, { began: false }), 'written');
      assert.equal(await b.store.resolve(b.recordKey, { kind: 'rerun' }, HOUR_MS), true);
      await hasSteps(b, await b.claim(), { one: '1', two: '2', three: '3' });
    },

    ...Object.fromEntries(
      Object.entries(WAYS_TO_END).map(([way, end]) => [
        `steps are gone with their record once ${way}`,
        async (b: Bench) => {
          const old = await b.claim();
          assert.equal(await save(b, old, 'step', 'old'), 'written');
          await end(b, old);
          const claim = await b.claim();
          await hasSteps(b, claim, {});
          assert.equal(await save(b, claim, 'step', 'new'), 'written');
          await hasSteps(b, claim, { step: 'new' });
        },
      ]),
    ),

    'a released record that another fingerprint claims has no steps left': async (b) => {
      const old = await b.claim();
      assert.equal(await save(b, old, 'step', 'old'), 'written');
      assert.equal(await b.store.release(old, { began: true }), 'written');
      const claim = await b.claim({ fingerprint: 'fingerprint-2' });
      await hasSteps(b, claim, {});
      assert.equal(await save(b, claim, 'step', 'new'), 'written');
      await hasSteps(b, claim, { step: 'new' });
    },

    'steps live as long as their record: over renewals, and while it is abandoned and kept': async (b) => {
      const claim = await b.claim({ leaseMs: LASTING_MS, retentionMs: 1, keepAbandoned: true });
      assert.equal(await save(b, claim, 'step', 'first', LASTING_MS), 'written');
      assert.equal(await b.store.renew(claim, MINUTE_MS), 'written');
      await b.pass(LASTING_MS);
      await b.store.purge(1_000);
      await hasSteps(b, claim, { step: 'first' });
      await b.lapse(claim);
      await b.pass(SHORT_MS);
      await b.store.purge(1_000);
      await hasSteps(b, await b.claim({ takeOver: true }), { step: 'first' });
    },

    'what a caller does to a result later, or a reader to what it got, does not change it': async (b) => {
      const claim = await b.claim();
      const result = Buffer.from('first');
      assert.equal(await stepsOf(b.store).save(claim, 'step', result, MINUTE_MS), 'written');
      result.fill(0);
      (await stepsOf(b.store).load(claim)).get('step')?.fill(0);
      await hasSteps(b, claim, { step: 'first' });
    },

    'steps of different keys do not touch each other': async (b) => {
      const keys = [b.recordKey.toLowerCase(), b.recordKey.toUpperCase(), newRecordKey()];
      const claims = await Promise.all(keys.map((recordKey) => b.claim({ recordKey })));
      for (const [i, claim] of claims.entries()) assert.equal(await save(b, claim, 'step', `of ${i}`), 'written');
      for (const [i, claim] of claims.entries()) await hasSteps(b, claim, { step: `of ${i}` });
    },

    'a save and a takeover at the end of the lease: never both': async (b) => {
      const other = await b.other();
      for (let round = 0; round < ROUNDS; round += 1) {
        const recordKey = newRecordKey();
        const claim = await b.claim({ recordKey });
        assert.equal(await b.store.renew(claim, 5), 'written');
        if (b.exact) await b.pass(5);
        else await sleep(round % 8);
        const [saved, taken] = await Promise.all([
          save(b, claim, 'step', 'old', HOUR_MS),
          other.claim(b.request({ recordKey, takeOver: true })),
        ]);
        if (taken.kind === 'claimed') {
          assert.equal(saved, 'lost');
          await hasSteps(b, taken.claim, {});
        } else if (saved === 'written') {
          await hasSteps(b, claim, { step: 'old' });
        }
        if (b.exact) assert.equal(taken.kind, 'claimed');
      }
    },
  },
};
