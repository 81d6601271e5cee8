import type { ActiveRun } from '../active-run.js';
import { monotonicNow, pause } from '../clock.js';
import type { EventLog, StreamHead, StreamItem } from '../event-log.js';
import type { FlushClock } from './flush-clock.js';
import { LiveFeed } from './live-feed.js';

/** When items are appended, and how many there may be. */
export interface StreamLimits {
  /** Longest time that an item waits for others, in milliseconds; the first one does not wait. */
  readonly flushAfterMs: number;
  /** Items that are enough for a batch. */
  readonly flushItems: number;
  /** Bytes that are enough for a batch. */
  readonly flushBytes: number;
  /** Most bytes of a stream; beyond it ends truncated. */
  readonly maxBytes: number;
  /** Most items of a stream. */
  readonly maxItems: number;
}

/** Bytes not yet in the log above which a source that can pause is asked to. */
const PAUSE_ABOVE_BYTES = 1024 * 1024;

/** Bytes not yet in the log that are too many: a source that cannot pause has outrun the store. */
const TOO_MANY_WAITING_BYTES = 8 * 1024 * 1024;

/** Largest batch: what has gathered while the store was away goes out in pieces of this size. */
const LARGEST_BATCH_BYTES = 1024 * 1024;
const LARGEST_BATCH_ITEMS = 1_000;

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 500;

/** `lost`: the claim is over. `truncated`: the stream has outgrown its limits. */
export type RecorderTrouble = 'lost' | 'truncated';

export interface RecorderEvents {
  /** Nothing more will be recorded. */
  readonly trouble: (trouble: RecorderTrouble) => void;
  /** A source that was asked to pause may go on. */
  readonly drain: () => void;
}

/**
 * Appends what a source emits to the log, apart from any connection: first at once, then in small
 * batches, each under the claim. Only what is in the log is handed on to followers.
 */
export class StreamRecorder {
  readonly feed: LiveFeed;
  private waiting: Uint8Array[] = [];
  private waitingBytes = 0;
  private bytes = 0;
  private items = 0;
  private appended = 0;
  private lastFlushAt = -Infinity;
  private isInClock = false;
  private pumping: Promise<void> | undefined;
  private trouble: RecorderTrouble | undefined;
  private paused = false;
  private ending = false;

  constructor(
    private readonly log: EventLog,
    private readonly run: ActiveRun,
    private readonly head: StreamHead,
    private readonly limits: StreamLimits,
    private readonly clock: FlushClock,
    private readonly on: RecorderEvents,
  ) {
    const { recordKey, recordId, attempt } = run.claim;
    this.feed = new LiveFeed({ recordKey, recordId, attempt }, head);
  }

  /** How many items have been given to the recorder. */
  get count(): number {
    return this.items;
  }

  /** Takes an item. False: the source should pause until `drain`. */
  push(bytes: Uint8Array): boolean {
    if (this.trouble || this.ending) return true;
    this.items += 1;
    this.bytes += bytes.byteLength;
    if (
      this.items > this.limits.maxItems ||
      this.bytes > this.limits.maxBytes ||
      this.waitingBytes > TOO_MANY_WAITING_BYTES
    ) {
      this.items -= 1;
      this.fail('truncated');
      return true;
    }
    this.waiting.push(bytes);
    this.waitingBytes += bytes.byteLength;
    this.schedule();
    this.paused ||= this.waitingBytes > PAUSE_ABOVE_BYTES;
    return !this.paused;
  }

  /** Resolves once everything that was pushed is in the log, or cannot be any more. */
  async finish(): Promise<RecorderTrouble | undefined> {
    this.ending = true;
    this.leaveClock();
    while (this.waiting.length > 0 && this.trouble !== 'lost') await this.pump();
    await this.pumping;
    return this.trouble;
  }

  private schedule(): void {
    if (this.pumping) return; // it looks again when its append has ended
    const enough =
      this.appended === 0 ||
      this.waiting.length >= this.limits.flushItems ||
      this.waitingBytes >= this.limits.flushBytes;
    if (enough || (!this.isInClock && monotonicNow() - this.lastFlushAt >= this.limits.flushAfterMs)) {
      void this.pump();
    } else if (!this.isInClock) {
      this.isInClock = true;
      this.clock.join(this.flush);
    }
  }

  /** Called by the clock; one function, by which the clock knows this stream. */
  private readonly flush = (): void => {
    this.isInClock = false;
    void this.pump();
  };

  private leaveClock(): void {
    if (this.isInClock) this.clock.leave(this.flush);
    this.isInClock = false;
  }

  private pump(): Promise<void> {
    this.leaveClock();
    this.pumping ??= this.appendBatch().finally(() => {
      this.pumping = undefined;
      if (this.waiting.length > 0 && !this.ending && this.trouble !== 'lost') this.schedule();
    });
    return this.pumping;
  }

  private async appendBatch(): Promise<void> {
    const batch = this.takeBatch();
    const firstSeq = this.appended + 1;
    this.lastFlushAt = monotonicNow();
    let wait = FIRST_PAUSE_MS;
    for (;;) {
      const sentAt = monotonicNow();
      try {
        const head = firstSeq === 1 ? { head: this.head } : {};
        const result = await this.log.append(this.run.claim, { firstSeq, items: batch, ...head }, this.run.leaseMs);
        if (result === 'lost') return this.fail('lost');
        this.run.leaseRenewed(sentAt, result);
        break;
      } catch {
        // Away, or its reply was lost: the log knows a repeated batch by its numbers.
        if (!this.run.mayHoldClaim) return this.fail('lost');
        await pause(wait);
        wait = Math.min(wait * 2, LONGEST_PAUSE_MS);
      }
    }
    this.appended += batch.length;
    this.feed.publish(batch.map((bytes, i): StreamItem => ({ seq: firstSeq + i, bytes })));
    if (this.paused && this.waitingBytes <= PAUSE_ABOVE_BYTES / 2) {
      this.paused = false;
      this.on.drain();
    }
  }

  private takeBatch(): Uint8Array[] {
    let bytes = 0;
    let n = 0;
    while (
      n < this.waiting.length &&
      n < LARGEST_BATCH_ITEMS &&
      (n === 0 || bytes + this.waiting[n]!.byteLength <= LARGEST_BATCH_BYTES)
    ) {
      bytes += this.waiting[n]!.byteLength;
      n += 1;
    }
    this.waitingBytes -= bytes;
    return this.waiting.splice(0, n);
  }

  private fail(trouble: RecorderTrouble): void {
    if (this.trouble) return;
    this.trouble = trouble;
    if (trouble === 'lost') {
      this.waiting = [];
      this.waitingBytes = 0;
    }
    this.on.trouble(trouble);
  }
}
