import { monotonicNow } from '../../../lib/core/clock.js';
import type { RecordedAnswer } from '../../../lib/core/record.js';
import { ReplayCache } from '../../../lib/core/replay-cache.js';
import { eventually } from '../support.js';

const MINUTE = 60_000;
const answer = (bytes: number, headers: (readonly [string, string])[] = []): RecordedAnswer => ({
  kept: true,
  status: 200,
  headers,
  body: new Uint8Array(bytes),
});
const later = (): number => monotonicNow() + MINUTE;
const keys = (cache: ReplayCache, count: number): number[] =>
  Array.from({ length: count }, (_, i) => i).filter((i) => cache.get(`k${i}`) !== undefined);

describe('ReplayCache', () => {
  it('gives back what it was given, with the fingerprint', () => {
    const cache = new ReplayCache({ maxBytes: 1e6, maxRecords: 10, maxAgeMs: MINUTE });
    const kept = answer(10);
    cache.set('a', 'print', kept, later());
    expect(cache.get('a')).toMatchObject({ fingerprint: 'print' });
    expect(cache.get('a')?.answer).toBe(kept);
    expect(cache.get('b')).toBeUndefined();
  });

  it('also remembers that an answer was not kept', () => {
    const cache = new ReplayCache({ maxBytes: 1e6, maxRecords: 10, maxAgeMs: MINUTE });
    cache.set('a', 'f', { kept: false, status: 200, reason: 'too_large' }, later());
    expect(cache.get('a')?.answer).toEqual({ kept: false, status: 200, reason: 'too_large' });
  });

  it('drops the oldest beyond the number of records', () => {
    const cache = new ReplayCache({ maxBytes: 1e6, maxRecords: 3, maxAgeMs: MINUTE });
    for (let i = 0; i < 5; i++) cache.set(`k${i}`, 'f', answer(1), later());
    expect(keys(cache, 5)).toEqual([2, 3, 4]);
  });

  it('drops the oldest beyond the number of bytes, with something for each record besides its body', () => {
    const cache = new ReplayCache({ maxBytes: 10_000, maxRecords: 1_000, maxAgeMs: MINUTE });
    for (let i = 0; i < 5; i++) cache.set(`k${i}`, 'f', answer(4_000), later());
    expect(keys(cache, 5)).toEqual([3, 4]);
    const small = new ReplayCache({ maxBytes: 10_000, maxRecords: 1_000, maxAgeMs: MINUTE });
    for (let i = 0; i < 100; i++) small.set(`k${i}`, 'f', answer(0), later());
    expect(keys(small, 100).length).toBeLessThan(30);
    expect(keys(small, 100)).toContain(99);
  });

  it('counts headers too', () => {
    const cache = new ReplayCache({ maxBytes: 10_000, maxRecords: 1_000, maxAgeMs: MINUTE });
    for (let i = 0; i < 5; i++) cache.set(`k${i}`, 'f', answer(0, [['link', 'x'.repeat(4_000)]]), later());
    expect(keys(cache, 5)).toEqual([3, 4]);
  });

  it('drops the oldest also after it was emptied, and after the oldest were deleted or set again', () => {
    const cache = new ReplayCache({ maxBytes: 1e6, maxRecords: 3, maxAgeMs: MINUTE });
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 5; i++) cache.set(`k${i}`, 'f', answer(1), later());
      expect(keys(cache, 5)).toEqual([2, 3, 4]);
      for (let i = 0; i < 5; i++) cache.delete(`k${i}`);
    }
    for (let i = 0; i < 3; i++) cache.set(`k${i}`, 'f', answer(1), later());
    cache.delete('k1');
    cache.set('k0', 'f', answer(1), later());
    for (let i = 3; i < 5; i++) cache.set(`k${i}`, 'f', answer(1), later());
    expect(keys(cache, 5)).toEqual([0, 3, 4]);
  });

  it('does not throw everything else out for an answer that is too large for it', () => {
    const cache = new ReplayCache({ maxBytes: 10_000, maxRecords: 10, maxAgeMs: MINUTE });
    cache.set('k0', 'f', answer(100), later());
    cache.set('k1', 'f', answer(20_000), later());
    expect(keys(cache, 2)).toEqual([0]);
  });

  it('counts a record once that is set again, and gives its room back when it is deleted', () => {
    const cache = new ReplayCache({ maxBytes: 10_000, maxRecords: 10, maxAgeMs: MINUTE });
    cache.set('k0', 'f', answer(4_000), later());
    for (let i = 0; i < 20; i++) cache.set('k1', 'f', answer(4_000), later());
    expect(keys(cache, 2)).toEqual([0, 1]);
    cache.delete('k0');
    cache.delete('k0');
    cache.set('k2', 'f', answer(4_000), later());
    expect(keys(cache, 3)).toEqual([1, 2]);
  });

  it('forgets an answer at its greatest age', async () => {
    const cache = new ReplayCache({ maxBytes: 1e6, maxRecords: 10, maxAgeMs: 40 });
    const setAt = monotonicNow();
    cache.set('a', 'f', answer(1), later());
    await eventually(() => cache.get('a') === undefined, 'the greatest age');
    expect(monotonicNow() - setAt).toBeGreaterThanOrEqual(40);
  });

  it('forgets an answer when the retention of its record ends, should that be sooner', async () => {
    const cache = new ReplayCache({ maxBytes: 1e6, maxRecords: 10, maxAgeMs: MINUTE });
    const end = monotonicNow() + 40;
    cache.set('a', 'f', answer(1), end);
    await eventually(() => cache.get('a') === undefined, 'the end of the retention');
    expect(monotonicNow()).toBeGreaterThanOrEqual(end);
    cache.set('b', 'f', answer(1), monotonicNow() - 1);
    expect(cache.get('b')).toBeUndefined();
  });

  it('keeps nothing where it is switched off', () => {
    const cache = new ReplayCache(false);
    cache.set('a', 'f', answer(1), later());
    expect(cache.get('a')).toBeUndefined();
  });
});
