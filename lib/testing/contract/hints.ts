import assert from 'node:assert/strict';
import type { Claim } from '../../core/record.js';
import type { IdempotencyStore } from '../../core/store.js';
import { HOUR_MS, newRecordKey, textAnswer, type Bench, type CaseGroup } from './bench.js';
import { listen, settle, soon } from './listening.js';

const EVENTS: Readonly<Record<string, (b: Bench, other: IdempotencyStore, claim: Claim) => Promise<unknown>>> = {
  completed: (_b, other, claim) => other.complete(claim, textAnswer('first'), HOUR_MS),
  released: (_b, other, claim) => other.release(claim, { began: true }),
  'released without a run': (_b, other, claim) => other.release(claim, { began: false }),
  abandoned: (_b, other, claim) => other.abandon(claim, { began: true }),
  resolved: async (b, other, claim) => {
    await b.lapse(claim);
    await other.resolve(claim.recordKey, { kind: 'completed', answer: textAnswer('settled') }, HOUR_MS);
  },
};

/** `subscribe`, where a store has it. */
export const hintCases: CaseGroup = {
  title: 'hints (if the store gives any)',
  cases: {
    ...Object.fromEntries(
      Object.entries(EVENTS).map(([event, happen]) => [
        `a waiter is woken when the record is ${event} by another client`,
        async (b: Bench) => {
          if (!b.store.subscribe) return;
          const claim = await b.claim();
          const [one, two] = [listen(b, b.recordKey), listen(b, b.recordKey)];
          try {
            await settle(b);
            await happen(b, await b.other(), claim);
            assert.ok(await soon(one.called), 'woken');
            assert.ok(await soon(two.called), 'and so is the second waiter');
          } finally {
            one.end();
            two.end();
          }
        },
      ]),
    ),

    'a waiter is woken when the record is forgotten by another client': async (b) => {
      if (!b.store.subscribe) return;
      await b.lapsed();
      const waiter = listen(b, b.recordKey);
      try {
        await settle(b);
        assert.equal(await (await b.other()).forget(b.recordKey), true);
        assert.ok(await soon(waiter.called));
      } finally {
        waiter.end();
      }
    },

    'a waiter finds the outcome by the time that it is woken': async (b) => {
      if (!b.store.subscribe) return;
      const claim = await b.claim();
      const waiter = listen(b, b.recordKey);
      try {
        await settle(b);
        const found = waiter.called.then(() => b.store.claim(b.request()));
        await b.store.complete(claim, textAnswer('first'), HOUR_MS);
        assert.ok(await soon(waiter.called));
        assert.equal((await found).kind, 'completed');
      } finally {
        waiter.end();
      }
    },

    'an ended subscription is not called; ending it twice does no harm, nor to its neighbour': async (b) => {
      if (!b.store.subscribe) return;
      const claim = await b.claim();
      const [ended, going] = [listen(b, b.recordKey), listen(b, b.recordKey)];
      try {
        await settle(b);
        ended.end();
        ended.end();
        await (await b.other()).complete(claim, textAnswer('first'), HOUR_MS);
        assert.ok(await soon(going.called));
        await settle(b);
        assert.equal(ended.calls, 0);
      } finally {
        ended.end();
        going.end();
      }
    },

    'waiters of many keys are woken each for its own': async (b) => {
      if (!b.store.subscribe) return;
      const keys = Array.from({ length: 20 }, newRecordKey);
      const held = await Promise.all(keys.map((recordKey) => b.claim({ recordKey })));
      const waiters = keys.map((recordKey) => listen(b, recordKey));
      try {
        await settle(b);
        const other = await b.other();
        await Promise.all(held.map((claim) => other.complete(claim, textAnswer('first'), HOUR_MS)));
        assert.deepEqual(
          await Promise.all(waiters.map((waiter) => soon(waiter.called))),
          keys.map(() => true),
        );
      } finally {
        for (const waiter of waiters) waiter.end();
      }
    },
  },
};
