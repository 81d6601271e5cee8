import type { ActiveRun } from '../active-run.js';
import { IdempotencyCursorInvalidError } from '../errors.js';
import type { StreamHead, StreamRef } from '../event-log.js';
import type { RecordView } from '../record.js';
import { findOrUnavailable, reusedError, streamGoneError } from '../refusals.js';
import type { IdempotencyStore } from '../store.js';
import { streamToken, type StreamCursor } from './cursor.js';
import { followStream, type StreamPart } from './follower.js';
import type { LiveFeed } from './live-feed.js';
import { StreamRecorder, type RecorderEvents, type StreamLimits } from './recorder.js';

/** The streams of one process: those that it records, with their feeds, and those that it follows. */
export class Streams {
  private readonly feeds = new Map<string, LiveFeed>();
  private readonly closing = new AbortController();

  constructor(private readonly store: IdempotencyStore) {}

  /** Whether the store can keep streams. */
  get areKept(): boolean {
    return this.store.events !== undefined;
  }

  /** Begins to record what the run streams. */
  record(active: ActiveRun, head: StreamHead, limits: StreamLimits, on: RecorderEvents): StreamRecorder {
    const recorder = new StreamRecorder(this.store.events!, active, head, limits, on);
    this.feeds.set(feedKey(recorder.feed.stream), recorder.feed);
    return recorder;
  }

  /** The run is over; its followers keep its feed for as long as they need it. */
  forget(run: { readonly recordId: string; readonly attempt: number }): void {
    this.feeds.delete(feedKey(run));
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

function feedKey({ recordId, attempt }: { readonly recordId: string; readonly attempt: number }): string {
  return `${recordId}.${attempt}`;
}
