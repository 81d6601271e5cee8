/** Stands for a timer of Node, as far as the engine uses one. */
class FakeTimer {
  constructor(
    readonly due: number,
    readonly owner: number,
    readonly order: number,
    readonly fire: () => void,
  ) {}
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  performance: globalThis.performance,
};

const { stackTraceLimit } = Error;

/**
 * One clock for all processes of a simulation, and their timers. A timer that is due does not fire by
 * itself: when it does is the scheduler's choice, as a process may be frozen or slow.
 */
export class FakeTime {
  now = 0;
  /** The process whose code runs: timers belong to it. */
  owner = -1;
  private readonly timers = new Set<FakeTimer>();
  private count = 0;

  /** Puts itself in the place of Node's timers until `restore`. */
  install(): void {
    // Half of the time of a schedule would go into stack traces that nobody reads.
    Error.stackTraceLimit = 0;
    Object.assign(globalThis, {
      setTimeout: (fire: () => void, ms = 0) => {
        const timer = new FakeTimer(this.now + Math.max(1, ms), this.owner, (this.count += 1), fire);
        this.timers.add(timer);
        return timer;
      },
      clearTimeout: (timer: FakeTimer | undefined) => void (timer && this.timers.delete(timer)),
      performance: { now: () => this.now, timeOrigin: 0 },
    });
  }

  restore(): void {
    Error.stackTraceLimit = stackTraceLimit;
    Object.assign(globalThis, real);
  }

  /** The next timer of a process, if it is due. */
  dueOf(owner: number): FakeTimer | undefined {
    const next = this.next((timer) => timer.owner === owner);
    return next && next.due <= this.now ? next : undefined;
  }

  /** When the next timer of anybody is due. */
  get nextDue(): number | undefined {
    return this.next(() => true)?.due;
  }

  fire(timer: FakeTimer): void {
    this.timers.delete(timer);
    timer.fire();
  }

  /** Takes away the timers of a process that has died. */
  drop(owner: number): void {
    for (const timer of this.timers) if (timer.owner === owner) this.timers.delete(timer);
  }

  private next(counts: (timer: FakeTimer) => boolean): FakeTimer | undefined {
    let next: FakeTimer | undefined;
    for (const timer of this.timers) {
      if (!counts(timer)) continue;
      if (!next || timer.due < next.due || (timer.due === next.due && timer.order < next.order)) next = timer;
    }
    return next;
  }
}
