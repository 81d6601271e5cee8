import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { about, HOUR_MS, LASTING_MS, MINUTE_MS, newRecordKey, SHORT_MS, type Bench, type CaseGroup } from './bench.js';
import { streamFollowingCases } from './stream-following.js';
import {
  append,
  flatHead,
  hasItems,
  HEAD,
  latin1,
  logOf,
  MUCH,
  numbered,
  page,
  readAll,
  refOf,
  standing,
  streaming,
  texts,
  WAYS_TO_LOSE,
} from './stream-kit.js';
import { streamLifeCases } from './stream-life.js';

const KIB = 1024;

const ITEMS: Readonly<Record<string, () => Uint8Array[]>> = {
  'empty items, alone and between others,': () => texts('', 'a', '', '', 'b', ''),
  'one empty item': () => texts(''),
  'items of all 256 byte values': () => [Uint8Array.from({ length: 256 }, (_, byte) => byte), ...texts('next')],
  'items that are no valid UTF-8': () => [Uint8Array.from([0xff, 0xfe, 0xc3, 0x28]), Uint8Array.from([0, 0xed, 0xa0])],
  'items in Buffers and slices of larger ones': () => [Buffer.from('ä😀'), Buffer.from('...item...').subarray(3, 7)],
  'items of 256 KiB': () => Array.from({ length: 3 }, () => randomBytes(256 * KIB)),
  'a batch of 1,000 items': () => numbered(1, 1_000),
};

/** `append` and `read`. */
const appendCases: CaseGroup['cases'] = {
  ...Object.fromEntries(
    Object.entries(ITEMS).map(([what, make]) => [
      `${what} are read back byte for byte, by every client`,
      async (b: Bench) => {
        const items = make();
        const claim = await b.claim();
        assert.equal(await append(b.store, claim, 1, items), 'written');
        await hasItems(b.store, refOf(claim), items);
        await hasItems(await b.other(), refOf(claim), items);
      },
    ]),
  ),

  '10,000 items in batches are kept, numbered without a gap': async (b) => {
    const claim = await b.claim();
    const items = numbered(1, 10_000);
    for (let from = 0, size = 1; from < items.length; from += size, size = (size % 997) + 249) {
      assert.equal(await append(b.store, claim, from + 1, items.slice(from, from + size)), 'written');
    }
    const read = await readAll(await b.other(), refOf(claim), 0, 32 * KIB);
    assert.equal(read.length, items.length);
    assert.ok(read.every(({ bytes }, i) => latin1(bytes) === latin1(items[i]!)));
  },

  'batches may come through different clients': async (b) => {
    const stores = [b.store, await b.other()];
    const claim = await b.claim();
    for (let seq = 1; seq <= 10; seq += 1) {
      assert.equal(await append(stores[seq % 2]!, claim, seq, numbered(seq, seq)), 'written');
    }
    for (const store of stores) await hasItems(store, refOf(claim), numbered(1, 10));
  },

  'the head is kept: its status, and its headers in their order': async (b) => {
    const head = {
      status: 207,
      headers: [
        ['link', '</a>; rel="next"'],
        ['content-disposition', 'attachment; filename="größe 😀.txt"'],
        ['link', `</b>; title="it's \\"1\\""`],
        ['x-empty', ''],
      ],
    } as const;
    const claim = await b.claim();
    assert.equal(await append(b.store, claim, 1, numbered(1, 2), { head }), 'written');
    assert.equal(await append(b.store, claim, 3, numbered(3, 3)), 'written');
    for (const after of [0, 1, 3, 9]) {
      assert.deepEqual(flatHead((await page(await b.other(), refOf(claim), after)).head), flatHead(head));
    }
    assert.deepEqual(flatHead((await b.view()).stream), flatHead(head));
  },

  'a running stream is told by claim and find once it has items, and not before': async (b) => {
    const claim = await b.claim();
    assert.equal((await b.asks('in_progress')).stream, undefined);
    assert.equal((await b.view()).stream, undefined);
    assert.equal(await logOf(b.store).read(refOf(claim), 0, MUCH), undefined);
    assert.equal(await append(b.store, claim, 1, numbered(1, 1)), 'written');
    assert.equal(await b.store.renew(claim, HOUR_MS), 'written');
    for (const store of [b.store, await b.other()]) {
      const { stream } = await b.asks('in_progress', {}, store);
      assert.deepEqual({ ...stream }, refOf(claim));
    }
    assert.deepEqual(flatHead((await b.view()).stream), flatHead(HEAD));
  },

  'a page has at most the bytes that are asked for, and at least one item': async (b) => {
    const claim = await b.claim();
    const sizes = [100, 100, 5_000, 0, 0, 1, 100, 5_000, 99, 1, 0, 100];
    const items = sizes.map((size, i) => new Uint8Array(size).fill(i));
    assert.equal(await append(b.store, claim, 1, items.slice(0, 5)), 'written');
    assert.equal(await append(b.store, claim, 6, items.slice(5)), 'written');
    for (const maxBytes of [1, 99, 100, 101, 200, 4_999, 5_000, 5_100, 20_000]) {
      const read = await readAll(b.store, refOf(claim), 0, maxBytes);
      assert.deepEqual(
        read.map(({ bytes }) => latin1(bytes)),
        items.map(latin1),
        `in pages of ${maxBytes} bytes`,
      );
    }
  },

  'a page begins after any cursor, also one inside a batch': async (b) => {
    const claim = await b.claim();
    for (const [from, to] of [
      [1, 1],
      [2, 6],
      [7, 8],
      [9, 12],
    ] as const) {
      assert.equal(await append(b.store, claim, from, numbered(from, to)), 'written');
    }
    for (let after = 0; after <= 12; after += 1) {
      for (const maxBytes of [1, 20, MUCH]) {
        const read = await readAll(b.store, refOf(claim), after, maxBytes);
        assert.deepEqual(
          read.map(({ bytes }) => latin1(bytes)),
          numbered(after + 1, 12).map(latin1),
          `after ${after}`,
        );
      }
    }
  },

  'at the tail and beyond it a page has no items, but all the rest': async (b) => {
    const claim = await streaming(b, ['one', 'two']);
    for (const after of [2, 3, 1_000_000]) {
      const { state, tail, items, head, leaseRemainingMs } = await page(b.store, refOf(claim), after);
      assert.deepEqual([state, tail, items.length], ['live', 2, 0], `after ${after}`);
      assert.deepEqual(flatHead(head), flatHead(HEAD));
      assert.ok(leaseRemainingMs > 0);
    }
  },

  'a page tells the tail of the log, though it does not reach it': async (b) => {
    const claim = await streaming(b, ['one', 'two', 'three']);
    const { tail, items } = await page(b.store, refOf(claim), 1, 1);
    assert.deepEqual([tail, items.length, items[0]?.seq], [3, 1, 2]);
  },

  'a repeated batch, whose reply was lost, is written and changes nothing': async (b) => {
    const claim = await streaming(b, ['one', 'two']);
    const other = await b.other();
    assert.equal(await append(other, claim, 1, texts('one', 'two')), 'written', 'the first batch');
    await hasItems(b.store, refOf(claim), texts('one', 'two'));
    assert.equal(await append(b.store, claim, 3, texts('three')), 'written');
    assert.equal(await append(b.store, claim, 3, texts('three')), 'written', 'one item');
    assert.equal(await append(b.store, claim, 4, texts('four', 'five')), 'written');
    for (const store of [b.store, other]) {
      assert.equal(await append(store, claim, 4, texts('four', 'five')), 'written', 'several items');
    }
    assert.equal(await append(b.store, claim, 6, texts('six')), 'written', 'and the log goes on');
    await hasItems(other, refOf(claim), texts('one', 'two', 'three', 'four', 'five', 'six'));
  },

  // Whoever repeats a write counts its lease from the repetition: it must not believe in one that is over.
  'a repeated batch moves the lease, as its reply says': async (b) => {
    const claim = await b.claim();
    assert.equal(await append(b.store, claim, 1, texts('one')), 'written');
    assert.equal(await append(b.store, claim, 1, texts('one'), { leaseMs: HOUR_MS }), 'written');
    const { leaseRemainingMs } = await b.asks('in_progress');
    about(leaseRemainingMs, HOUR_MS, 'the lease', MINUTE_MS / 2);
  },

  'an earlier batch that arrives once more, late, changes no item': async (b) => {
    const claim = await streaming(b, ['one', 'two']);
    assert.equal(await append(b.store, claim, 3, texts('three', 'four', 'five')), 'written');
    await append(b.store, claim, 1, texts('one', 'two'));
    await append(b.store, claim, 2, texts('two'));
    await hasItems(b.store, refOf(claim), texts('one', 'two', 'three', 'four', 'five'));
  },

  'a batch that would leave a gap is lost, and nothing of it is seen': async (b) => {
    const claim = await b.claim();
    const gap = (firstSeq: number) => () => append(b.store, claim, firstSeq, texts('x', 'y'));
    await b.changesNothing({ 'in an empty log': gap(2) }, 'lost');
    assert.equal((await b.asks('in_progress')).stream, undefined);
    assert.equal(await append(b.store, claim, 1, texts('one', 'two')), 'written');
    await b.changesNothing({ 'one item': gap(4), 'many items': gap(1_000) }, 'lost');
    await hasItems(b.store, refOf(claim), texts('one', 'two'));
    assert.equal(await append(b.store, claim, 3, texts('three')), 'written', 'and the log goes on');
  },

  'a batch that overlaps the log is lost, and gives no number twice': async (b) => {
    const claim = await streaming(b, ['one', 'two']);
    await b.changesNothing({ overlap: () => append(b.store, claim, 2, texts('two', 'three')) }, 'lost');
    await hasItems(b.store, refOf(claim), texts('one', 'two'));
  },

  'an append under a foreign token is lost, and nothing of it is seen': async (b) => {
    const claim = await b.claim();
    const elsewhere = await b.claim({ recordKey: newRecordKey() });
    for (const [firstSeq, value] of [
      [1, 'one'],
      [2, 'two'],
    ] as const) {
      for (const { claimToken } of [b.request(), elsewhere]) {
        const call = () => append(b.store, { ...claim, claimToken }, firstSeq, texts('foreign'), { leaseMs: HOUR_MS });
        await b.changesNothing({ [`item ${firstSeq}`]: call }, 'lost');
      }
      assert.equal(await append(b.store, claim, firstSeq, texts(value)), 'written');
    }
    await hasItems(b.store, refOf(claim), texts('one', 'two'));
  },

  'an append without a record is lost, and makes none': async (b) => {
    const claim = { ...b.request(), recordId: randomUUID(), attempt: 1, fencingToken: 1, tookOver: false };
    await b.changesNothing({ append: () => append(b.store, claim, 1, texts('one')) }, 'lost');
    assert.equal(await logOf(b.store).read(refOf(claim), 0, MUCH), undefined);
  },

  ...Object.fromEntries(
    Object.entries(WAYS_TO_LOSE).map(([way, lose]) => [
      `an append of a claim is lost, and nothing of it is seen, once ${way}`,
      async (b: Bench) => {
        for (const [already, firstSeq] of [
          [[], 1],
          [['one'], 2],
        ] as const) {
          const recordKey = newRecordKey();
          const claim = await b.claim({ recordKey });
          if (already.length > 0) assert.equal(await append(b.store, claim, 1, texts(...already)), 'written');
          await lose(b, claim);
          const before = await standing(b, recordKey);
          for (const store of [b.store, await b.other()]) {
            assert.equal(await append(store, claim, firstSeq, texts('late'), { leaseMs: HOUR_MS }), 'lost');
          }
          assert.deepEqual(await standing(b, recordKey), before);
        }
      },
    ]),
  ),

  'an append sets the lease to end that long from now': async (b) => {
    const claim = await b.claim({ leaseMs: LASTING_MS });
    assert.equal(await append(b.store, claim, 1, texts('one'), { leaseMs: MINUTE_MS }), 'written');
    await b.pass(LASTING_MS);
    const { leaseRemainingMs } = await b.asks('in_progress');
    assert.ok(leaseRemainingMs <= MINUTE_MS - LASTING_MS, `${leaseRemainingMs} ms`);
    assert.equal(await append(b.store, claim, 2, texts('two'), { leaseMs: SHORT_MS }), 'written', 'it can shorten it');
    await b.pass(SHORT_MS);
    await b.asks('abandoned');
  },

  'what a caller does to its items later, or a reader to those that it got, does not change the log': async (b) => {
    const claim = await b.claim();
    const items = texts('one', 'two');
    const headers: [string, string][] = [['etag', '"1"']];
    assert.equal(await append(b.store, claim, 1, items, { head: { status: 200, headers } }), 'written');
    for (const bytes of items) bytes.fill(0);
    items.push(...texts('three'));
    headers[0]![1] = '"2"';
    const seen = await page(b.store, refOf(claim));
    for (const { bytes } of seen.items) bytes.fill(0);
    await hasItems(b.store, refOf(claim), texts('one', 'two'));
    assert.deepEqual(flatHead((await page(b.store, refOf(claim))).head), { status: 200, headers: [['etag', '"1"']] });
  },

  'logs of different keys do not touch each other': async (b) => {
    const keys = [b.recordKey.toLowerCase(), b.recordKey.toUpperCase(), ...Array.from({ length: 10 }, newRecordKey)];
    const claims = await Promise.all(keys.map((recordKey) => b.claim({ recordKey })));
    const own = (i: number) => texts(`${i} a`, `${i} b`);
    await Promise.all(claims.map((claim, i) => append(b.store, claim, 1, own(i))));
    for (const [i, claim] of claims.entries()) await hasItems(b.store, refOf(claim), own(i));
  },
};

/** The event log. */
export const streamCases: CaseGroup = {
  title: 'event log',
  needs: 'events',
  cases: { ...appendCases, ...streamLifeCases, ...streamFollowingCases },
};
