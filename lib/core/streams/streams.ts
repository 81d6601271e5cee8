import type { ActiveRun } from '../active-run.js';
import { IdempotencyCursorInvalidError } from '../errors.js';
import type { StreamHead, StreamRef } from '../event-log.js';
import type { RecordView } from '../record.js';
import { findOrUnavailable, reusedError, streamGoneError } from '../refusals.js';
import type { IdempotencyStore } from '../store.js';
import { streamToken, type StreamCursor } from './cursor.js';
import { FlushClocks } from './flush-clock.js';
import { followStream, type StreamPart } from './follower.js';
import type { LiveFeed } from './live-feed.js';
import { StreamRecorder, type RecorderEvents, type StreamLimits } from './recorder.js';

/** The streams of one process: those that it records, with their feeds, and those that it follows. */
export class Streams {
  private readonly feeds = new Map<string, LiveFeed>();
  /** For each run that streams, or may: whether its own client has left. */
  private readonly runs = new Map<string, () => boolean>();
  private readonly clocks = new FlushClocks();
  private readonly closing = new AbortController();

  constructor(
    private readonly store: IdempotencyStore,
    /** Most runs that go on with nobody in this process to read them, before no other one begins. */
    private readonly maxDetached: number,
  ) {}

  /** Whether the store can keep streams. */
  get areKept(): boolean {
    return this.store.events !== undefined;
  }

  /** Whether another stream may begin: clients that ask and leave must not pile up what they have asked for. */
  get hasRoom(): boolean {
    let detached = 0;
    for (const [key, hasLeft] of this.runs) if (hasLeft() && !this.feeds.get(key)?.isFollowed) detached += 1;
    return detached < this.maxDetached;
  }

  /** Counts a run among the streams of this process, until it is forgotten. */
  count(run: StreamOwner, hasLeft: () => boolean): void {
    this.runs.set(feedKey(run), hasLeft);
  }

  /** Begins to record what the run streams. */
  record(active: ActiveRun, head: StreamHead, limits: StreamLimits, on: RecorderEvents): StreamRecorder {
    const recorder = new StreamRecorder(
      this.store.events!,
      active,
      head,
      limits,
      this.clocks.of(limits.flushAfterMs),
      on,
    );
    this.feeds.set(feedKey(recorder.feed.stream), recorder.feed);
    return recorder;
  }

  /** The run is over; its followers keep its feed for as long as they need it. */
  forget(run: StreamOwner): void {
    this.feeds.delete(feedKey(run));
    this.runs.delete(feedKey(run));
  }

  /** Reads a stream from an item on; fed from memory where its producer is in this process. */
  follow(
    stream: StreamRef,
    after: number,
    left: AbortSignal,
    feed: LiveFeed | undefined = this.feeds.get(feedKey(stream)),
  ): AsyncGenerator<StreamPart, void, void> {
    // A stream of this process ends for its followers as for its producer; another's is left to another process.
    const over = feed ? left : AbortSignal.any([left, this.closing.signal]);
    return followStream({ store: this.store, stream, after, feed, left: over });
  }

  /** Ends the following of other processes' streams: this one shuts down, and their clients can resume elsewhere. */
  close(): void {
    this.closing.abort();
  }

  /**
   * The stream of a caller that has seen a part of it. It runs nothing: where there is no record, the
   * caller is told so instead of being given another stream.
   * @throws IdempotencyError
   */
  async resume(
    { recordKey, fingerprint }: { readonly recordKey: string; readonly fingerprint: string },
    cursor: StreamCursor,
  ): Promise<{ stream: StreamRef; after: number }> {
    const record = await findOrUnavailable(this.store, recordKey);
    if (!record || record.state === 'released') throw streamGoneError();
    if (record.fingerprint !== fingerprint) throw reusedError();
    const isStream = record.stream !== undefined || record.answer?.kept === 'stream';
    if (!isStream || streamToken(record.recordId) !== cursor.token || record.attempt !== cursor.attempt) {
      throw new IdempotencyCursorInvalidError('Last-Event-ID names another stream than that of this request.', {
        param: 'Last-Event-ID',
      });
    }
    return { stream: streamOf(record), after: cursor.seq };
  }
}

/** The generation of a stream that a record holds. */
export function streamOf({ recordKey, recordId, attempt }: RecordView): StreamRef {
  return { recordKey, recordId, attempt };
}

type StreamOwner = Pick<StreamRef, 'recordId' | 'attempt'>;

function feedKey({ recordId, attempt }: StreamOwner): string {
  return `${recordId}.${attempt}`;
}
