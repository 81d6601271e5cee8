import assert from 'node:assert/strict';
import type { EventLog, StreamHead, StreamItem, StreamPage, StreamRef } from '../../core/event-log.js';
import type { Claim, StreamedAnswer } from '../../core/record.js';
import type { IdempotencyStore, RenewResult } from '../../core/store.js';
import { flat, HOUR_MS, MINUTE_MS, textAnswer, type Bench } from './bench.js';

export const HEAD: StreamHead = { status: 200, headers: [['content-type', 'text/event-stream']] };
export const OTHER_HEAD: StreamHead = { status: 201, headers: [['content-type', 'text/plain']] };

/** Enough for any page of a case that is not about pages. */
export const MUCH = 64 * 1024 * 1024;

export function logOf(store: IdempotencyStore): EventLog {
  assert.ok(store.events, 'the store has an event log');
  return store.events;
}

/** The generation of the stream that this claim writes. */
export function refOf({ recordKey, recordId, attempt }: Claim): StreamRef {
  return { recordKey, recordId, attempt };
}

/** Items of these texts. */
export function texts(...values: readonly string[]): Uint8Array[] {
  return values.map((value) => new TextEncoder().encode(value));
}

/** Item number n is `item n`. */
export function numbered(from: number, to: number): Uint8Array[] {
  return texts(...Array.from({ length: to - from + 1 }, (_, i) => `item ${from + i}`));
}

export function streamedAnswer(items: number, end: StreamedAnswer['end'] = 'complete'): StreamedAnswer {
  return { kept: 'stream', ...HEAD, end, items };
}

/** Appends from item `firstSeq` on; with the head if that is the first one. */
export function append(
  store: IdempotencyStore,
  claim: Claim,
  firstSeq: number,
  items: readonly Uint8Array[],
  { leaseMs = MINUTE_MS, head = HEAD }: { readonly leaseMs?: number; readonly head?: StreamHead } = {},
): Promise<RenewResult> {
  return logOf(store).append(claim, { firstSeq, items, ...(firstSeq === 1 && { head }) }, leaseMs);
}

/** A live claim that has streamed these texts in one batch. */
export async function streaming(b: Bench, values: readonly string[], changes?: Parameters<Bench['claim']>[0]) {
  const claim = await b.claim(changes);
  assert.equal(await append(b.store, claim, 1, texts(...values)), 'written');
  return claim;
}

/** One page; there must be one. */
export async function page(
  store: IdempotencyStore,
  stream: StreamRef,
  after = 0,
  maxBytes = MUCH,
): Promise<StreamPage> {
  const found = await logOf(store).read(stream, after, maxBytes);
  assert.ok(found, 'this generation of the stream is there');
  return found;
}

/** Bytes as a text that compares and prints well, one character for each. */
export function latin1(bytes: Uint8Array): string {
  assert.ok(ArrayBuffer.isView(bytes), 'an item is a Uint8Array');
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** All pages from a cursor on. Insists that each keeps to `maxBytes` and that no number is left out or comes twice. */
export async function readAll(
  store: IdempotencyStore,
  stream: StreamRef,
  after = 0,
  maxBytes = MUCH,
): Promise<StreamItem[]> {
  const all: StreamItem[] = [];
  for (let cursor = after; ;) {
    const { items, tail } = await page(store, stream, cursor, maxBytes);
    if (items.length === 0) {
      assert.ok(cursor >= tail, `a page after ${cursor} of ${tail} has at least one item`);
      return all;
    }
    const size = items.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
    assert.ok(items.length === 1 || size <= maxBytes, `${items.length} items of ${size} bytes, ${maxBytes} asked for`);
    for (const { seq, bytes } of items) {
      assert.equal(seq, cursor + 1, 'the numbers are contiguous');
      all.push({ seq, bytes });
      cursor = seq;
    }
    assert.ok(cursor <= tail, `item ${cursor} is not beyond the tail, ${tail}`);
  }
}

/** Insists that the stream has these items and no other. */
export async function hasItems(
  store: IdempotencyStore,
  stream: StreamRef,
  expected: readonly Uint8Array[],
): Promise<void> {
  const items = await readAll(store, stream);
  assert.deepEqual(
    items.map(({ bytes }) => latin1(bytes)),
    expected.map(latin1),
  );
  assert.equal((await page(store, stream)).tail, expected.length, 'the tail');
}

/** Headers and status of a head in plain values. */
export function flatHead(head: StreamHead | undefined): unknown {
  return head && { status: head.status, headers: head.headers.map(([name, value]) => [name, value]) };
}

/** Everything that an append could have changed, in plain values: the record and its latest stream. */
export async function standing(b: Bench, recordKey = b.recordKey): Promise<unknown> {
  const view = await b.store.find(recordKey);
  const found = view && (await b.store.events?.read(view, 0, MUCH));
  if (!found) return { record: flat(view) };
  const { state, tail, items, end, head } = found;
  const bytes = items.map((item) => `${item.seq} ${latin1(item.bytes)}`);
  return { record: flat(view), stream: { state, tail, end, head: flatHead(head), bytes } };
}

/** Ways in which a live claim is lost. */
export const WAYS_TO_LOSE: Readonly<Record<string, (b: Bench, claim: Claim) => Promise<unknown>>> = {
  'its lease is over': (b, claim) => b.lapse(claim),
  'it has completed': (b, claim) => b.store.complete(claim, textAnswer('first'), HOUR_MS),
  'it was released': (b, claim) => b.store.release(claim, { began: true }),
  'it was undone': (b, claim) => b.store.release(claim, { began: false }),
  'it was abandoned': (b, claim) => b.store.abandon(claim, { began: true }),
  'its record may run again': async (b, claim) => {
    await b.lapse(claim);
    assert.equal(await b.store.resolve(claim.recordKey, { kind: 'rerun' }, HOUR_MS), true);
  },
  'its record was forgotten': async (b, claim) => {
    await b.lapse(claim);
    assert.equal(await b.store.forget(claim.recordKey), true);
  },
  'another has taken over': async (b, claim) => {
    await b.lapse(claim);
    await b.claim({ recordKey: claim.recordKey, takeOver: true });
  },
  'its record was released and claimed again': async (b, claim) => {
    assert.equal(await b.store.release(claim, { began: true }), 'written');
    await b.claim({ recordKey: claim.recordKey });
  },
  'its key was claimed as a new record': async (b, claim) => {
    assert.equal(await b.store.release(claim, { began: true }), 'written');
    await b.claim({ recordKey: claim.recordKey, fingerprint: 'fingerprint-2' });
  },
};

/** Ways in which the record of a live claim ends, and with it all that belonged to it. */
export const WAYS_TO_END: Readonly<Record<string, (b: Bench, claim: Claim) => Promise<unknown>>> = {
  'its retention is over': async (b, claim) => {
    assert.equal(await b.store.complete(claim, textAnswer('first'), 1), 'written');
    await b.pass(1);
  },
  'it was purged': async (b, claim) => {
    assert.equal(await b.store.complete(claim, textAnswer('first'), 1), 'written');
    await b.pass(1);
    await b.store.purge(1_000);
  },
  'it was forgotten once completed': async (b, claim) => {
    assert.equal(await b.store.complete(claim, textAnswer('first'), HOUR_MS), 'written');
    assert.equal(await b.store.forget(claim.recordKey), true);
  },
  'it was forgotten once abandoned': WAYS_TO_LOSE['its record was forgotten']!,
};
