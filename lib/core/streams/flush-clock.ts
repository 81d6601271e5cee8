import { monotonicNow } from '../clock.js';

/**
 * Tells the streams of a process when to append what waits: all of them at once, at times that lie a
 * flush time apart. One timer serves them all, and what is appended in the same moment can go to the
 * store together.
 */
export class FlushClock {
  private waiting = new Set<() => void>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly everyMs: number) {}

  /** Calls `flush` once, at the next time: in `everyMs` at most. */
  join(flush: () => void): void {
    this.waiting.add(flush);
    this.timer ??= setTimeout(() => this.strike(), this.everyMs - (monotonicNow() % this.everyMs));
  }

  leave(flush: () => void): void {
    this.waiting.delete(flush);
    if (this.waiting.size > 0) return;
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private strike(): void {
    this.timer = undefined;
    const due = this.waiting;
    this.waiting = new Set();
    for (const flush of due) flush();
  }
}

/** A clock for each flush time that is in use. */
export class FlushClocks {
  private readonly clocks = new Map<number, FlushClock>();

  of(everyMs: number): FlushClock {
    let clock = this.clocks.get(everyMs);
    if (!clock) this.clocks.set(everyMs, (clock = new FlushClock(everyMs)));
    return clock;
  }
}
