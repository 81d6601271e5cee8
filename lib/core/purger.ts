import type { IdempotencyStore } from './store.js';

/**
 * Removes expired records from time to time, off the request path. Each process may run one: stores
 * see to it that two do not do the same work. The timer does not keep a process alive.
 */
export class Purger {
  private timer: NodeJS.Timeout | undefined;
  private current: Promise<void> | undefined;
  private stopped = false;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly everyMs: number,
    private readonly batch: number,
    private readonly onError: (error: unknown) => void,
  ) {}

  start(): void {
    if (this.stopped) return;
    // Up to a tenth later than asked, so that processes started together drift apart; and never more
    // than a timer can count (2^31 ms, 24.8 days).
    const delay = Math.min(this.everyMs * (1 + Math.random() / 10), 2 ** 31 - 1);
    this.timer = setTimeout(() => {
      this.current = this.purgeAll().finally(() => {
        this.current = undefined;
        this.start();
      });
    }, delay);
    this.timer.unref();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.current;
  }

  private async purgeAll(): Promise<void> {
    try {
      while (!this.stopped && (await this.store.purge(this.batch)) >= this.batch);
    } catch (error) {
      this.onError(error);
    }
  }
}
