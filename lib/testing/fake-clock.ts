import type { Clock } from '../core/clock.js';

/** A clock that stands still until a test moves it. */
export interface FakeClock extends Clock {
  /** Moves the clock forward by `ms` milliseconds. */
  advance(ms: number): void;
  /** Sets the clock to `ms` milliseconds since 1970; earlier than now is allowed, as it is for a real one. */
  set(ms: number): void;
}

/**
 * A clock for `memoryStore`, so that a test need not wait for a lease or a retention to end.
 *
 * @param startMs milliseconds since 1970; default: the start of 2030
 * @example
 * const clock = fakeClock();
 * const store = memoryStore({ clock });
 * clock.advance(24 * 60 * 60 * 1_000); // a day later, to the millisecond
 */
export function fakeClock(startMs: number = Date.UTC(2030, 0, 1)): FakeClock {
  let now = checked(startMs, 'startMs');
  return {
    now: () => now,
    advance(ms) {
      if (!(ms >= 0)) throw new RangeError(`fakeClock.advance: ${ms} is not a number of milliseconds from 0 up.`);
      now = checked(now + ms, 'advance');
    },
    set(ms) {
      now = checked(ms, 'set');
    },
  };
}

/** Beyond this a `Date` is invalid, and a test would compare NaN with NaN. */
const LAST_DATE_MS = 8.64e15;

function checked(ms: number, what: string): number {
  if (!(Math.abs(ms) <= LAST_DATE_MS))
    throw new RangeError(`fakeClock: ${what}: ${ms} is outside what a Date can hold.`);
  return ms;
}
