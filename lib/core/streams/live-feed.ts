import type { StreamEnd, StreamHead, StreamItem, StreamRef } from '../event-log.js';

/** How much of the end of a stream its own process keeps in memory for its followers; who is further behind reads the log. */
const KEPT_BYTES = 512 * 1024;

/**
 * A stream as its producing process sees it: followers here are fed from memory with what has just
 * been appended, and read the log only where they are too far behind.
 */
export class LiveFeed {
  private items: StreamItem[] = [];
  private bytes = 0;
  private ended: StreamEnd | 'interrupted' | undefined;
  private readonly listeners = new Set<() => void>();

  constructor(
    readonly stream: StreamRef,
    readonly head: StreamHead,
  ) {}

  get end(): StreamEnd | 'interrupted' | undefined {
    return this.ended;
  }

  /** Items that are in the log now. */
  publish(items: readonly StreamItem[]): void {
    for (const item of items) {
      this.items.push(item);
      this.bytes += item.bytes.byteLength;
    }
    let drop = 0;
    while (this.bytes > KEPT_BYTES && drop < this.items.length - 1) this.bytes -= this.items[drop++]!.bytes.byteLength;
    if (drop > 0) this.items = this.items.slice(drop);
    this.wake();
  }

  close(end: StreamEnd | 'interrupted'): void {
    this.ended = end;
    this.wake();
  }

  /** The items after `seq`, or undefined where they are no longer in memory. */
  after(seq: number): readonly StreamItem[] | undefined {
    const first = this.items[0];
    if (!first) return seq === 0 ? [] : undefined;
    if (seq < first.seq - 1) return undefined;
    return this.items.slice(seq - first.seq + 1);
  }

  /** Whether anybody in this process reads it. */
  get isFollowed(): boolean {
    return this.listeners.size > 0;
  }

  subscribe(wake: () => void): () => void {
    this.listeners.add(wake);
    return () => this.listeners.delete(wake);
  }

  private wake(): void {
    for (const listener of this.listeners) listener();
  }
}
