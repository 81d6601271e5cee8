const TICK_MS = 10;

/** Watches how long this process is kept from doing anything: what a busy machine adds to every time measured. */
export class Stalls {
  private longest = 0;
  private last = performance.now();
  private readonly timer = setInterval(() => {
    const now = performance.now();
    this.longest = Math.max(this.longest, now - this.last - TICK_MS);
    this.last = now;
  }, TICK_MS).unref();

  /** The longest stall since the last call. */
  take(): number {
    const longest = Math.max(this.longest, performance.now() - this.last - TICK_MS, 0);
    this.longest = 0;
    return longest;
  }

  stop(): void {
    clearInterval(this.timer);
  }
}
