import fc from 'fast-check';
import { inProgressError, UsualDurations } from '../../../lib/core/in-progress.js';

describe('UsualDurations', () => {
  it('knows nothing of an operation that has not ended yet', () => {
    expect(new UsualDurations().of('a')).toBeUndefined();
  });

  it('starts with the first duration and follows later ones slowly', () => {
    const durations = new UsualDurations();
    durations.add('a', 1_000);
    expect(durations.of('a')).toBe(1_000);
    durations.add('a', 2_000);
    expect(durations.of('a')).toBeGreaterThan(1_000);
    expect(durations.of('a')).toBeLessThan(1_500);
    for (let i = 0; i < 50; i++) durations.add('a', 5_000);
    expect(durations.of('a')).toBeCloseTo(5_000, -1);
    expect(durations.of('b')).toBeUndefined();
  });

  it('stays between the shortest and the longest that it was told', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1_000_000 }), { minLength: 1, maxLength: 30 }), (all) => {
        const durations = new UsualDurations();
        for (const ms of all) durations.add('a', ms);
        expect(durations.of('a')).toBeGreaterThanOrEqual(Math.min(...all) - 1e-6);
        expect(durations.of('a')).toBeLessThanOrEqual(Math.max(...all) + 1e-6);
      }),
    );
  });

  it('keeps a bounded number of operations, however many names there are', () => {
    const durations = new UsualDurations();
    for (let i = 0; i < 3_000; i++) durations.add(`operation ${i}`, i);
    const kept = Array.from({ length: 3_000 }, (_, i) => durations.of(`operation ${i}`)).filter(
      (ms) => ms !== undefined,
    );
    expect(kept).toHaveLength(1_000);
    expect(durations.of('operation 2999')).toBe(2_999);
    expect(durations.of('operation 0')).toBeUndefined();
  });
});

describe('inProgressError', () => {
  const after = (leaseRemainingMs: number, runningMs: number, usualMs?: number): number =>
    inProgressError({ leaseRemainingMs, runningMs }, usualMs).retryAfterSeconds;

  it('says to ask when the run is usually over', () => {
    expect(after(30_000, 2_000, 7_000)).toBe(5);
    expect(after(30_000, 2_500, 7_000)).toBe(5);
  });

  it('says to ask when the lease is over, where nothing is known of the operation', () => {
    expect(after(12_000, 500)).toBe(12);
    expect(after(12_001, 500)).toBe(13);
  });

  it('says to ask soon where the run has taken longer than usual', () => {
    expect(after(30_000, 9_000, 7_000)).toBe(1);
    expect(after(30_000, 7_000, 7_000)).toBe(1);
  });

  it('stays within 1 to 59 whole seconds, whatever the store and the history say', () => {
    const ms = fc.oneof(fc.integer({ min: -1e6, max: 1e12 }), fc.double({ min: -1e6, max: 1e12, noNaN: true }));
    fc.assert(
      fc.property(ms, ms, fc.option(ms, { nil: undefined }), (leaseRemainingMs, runningMs, usualMs) => {
        const seconds = after(leaseRemainingMs, runningMs, usualMs);
        expect(Number.isInteger(seconds) && seconds >= 1 && seconds <= 59).toBe(true);
      }),
    );
    expect(after(0, 0)).toBe(1);
    expect(after(900_000, 0)).toBe(59);
  });

  it('is a 409 with its own code', () => {
    expect(inProgressError({ leaseRemainingMs: 1, runningMs: 1 }, undefined)).toMatchObject({
      code: 'idempotency_in_progress',
      statusCode: 409,
      name: 'IdempotencyInProgressError',
    });
  });
});
