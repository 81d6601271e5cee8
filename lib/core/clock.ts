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

/** Waits. On the global timer, so that a test may turn the clock. `ref: false`: the wait does not keep a process alive. */
export function pause(ms: number, { ref = true }: { ref?: boolean } = {}): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    if (!ref) timer.unref();
  });
}
