import { fakeClock } from '../../lib/testing/index.js';

describe('fakeClock', () => {
  it('stands still until it is moved', async () => {
    const clock = fakeClock(1_000);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(clock.now()).toBe(1_000);
    clock.advance(250);
    expect(clock.now()).toBe(1_250);
    clock.advance(0);
    expect(clock.now()).toBe(1_250);
  });

  it('is set to any time, earlier ones included', () => {
    const clock = fakeClock();
    expect(new Date(clock.now()).toISOString()).toBe('2030-01-01T00:00:00.000Z');
    clock.set(Date.UTC(2020, 0, 1));
    expect(new Date(clock.now()).getUTCFullYear()).toBe(2020);
  });

  it('refuses what is no time, and keeps the one it had', () => {
    const clock = fakeClock(1_000);
    for (const ms of [-1, NaN]) expect(() => clock.advance(ms)).toThrow(RangeError);
    for (const ms of [NaN, Infinity, 8.65e15]) expect(() => clock.set(ms)).toThrow(RangeError);
    expect(() => clock.advance(Infinity)).toThrow(RangeError);
    expect(() => fakeClock(NaN)).toThrow(RangeError);
    expect(clock.now()).toBe(1_000);
  });
});
