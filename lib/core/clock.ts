/** A source of wall-clock time, for stores that live in the process. */
export interface Clock {
  /** Milliseconds since 1970, as `Date.now()` counts them. */
  now(): number;
}

/** The clock of this machine. */
export const systemClock: Clock = { now: () => Date.now() };

/**
 * Milliseconds of a clock that never jumps. Everything that the engine measures by itself (a lease
 * as seen from here, a time-out) uses it; what is decided between processes uses the store's clock.
 */
export function monotonicNow(): number {
  return performance.now();
}
