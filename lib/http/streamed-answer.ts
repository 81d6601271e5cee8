import type { OutgoingHttpHeaders } from 'node:http';
import type { ActiveRun } from '../core/active-run.js';
import type { Engine } from '../core/engine.js';
import {
  ClientLeftError,
  IdempotencyCancelledError,
  IdempotencyClaimLostError,
  IdempotencyStreamLimitError,
} from '../core/errors.js';
import type { StreamEnd, StreamHead } from '../core/event-log.js';
import type { StreamedAnswer as RecordedStream } from '../core/record.js';
import { cursorsOf } from '../core/streams/cursor.js';
import type { StreamLimits, StreamRecorder } from '../core/streams/recorder.js';
import { keptHeaders } from './kept-headers.js';
import type { StreamSink } from './held-body.js';
import type { ResponseWire } from './response-wire.js';
import { SseFrames, withId } from './sse-frames.js';
import { deliver } from './stream-delivery.js';

/** What came of a stream, for the run that it belongs to. */
export type StreamOutcome =
  | { readonly kind: 'recorded'; readonly answer: RecordedStream }
  /** The claim is over, or the process is about to end: what is recorded stays, and its end is unknown. */
  | { readonly kind: 'interrupted' }
  /** It ended by itself before it had an item. `bytes`: what was written that is no item. */
  | { readonly kind: 'empty'; readonly bytes: Buffer }
  /** Its client left, and with it the wish for it, before there was an item. */
  | { readonly kind: 'unwanted' };

export interface StreamedAnswerOptions {
  readonly engine: Engine;
  readonly active: ActiveRun;
  readonly wire: ResponseWire;
  readonly limits: StreamLimits;
  readonly head: { readonly status: number; readonly headers: OutgoingHttpHeaders };
  /** Whether the source has failed, as far as the pipeline knows. */
  readonly sourceFailed: () => boolean;
  readonly done: (outcome: StreamOutcome) => void;
}

/**
 * The answer of a run that streams: what the application writes goes to the recorder, and from there
 * to the client, as to any other follower. The source does not know of the client.
 */
export class StreamedAnswer implements StreamSink {
  private readonly head: StreamHead;
  private readonly frames: SseFrames | undefined;
  private readonly cursorOf: (seq: number) => string;
  private recorder: StreamRecorder | undefined;
  private unframed: Buffer[] = [];
  private isDone = false;
  private readonly left = new AbortController();
  private delivered: Promise<void> = Promise.resolve();
  private readonly overdue: NodeJS.Timeout;

  constructor(private readonly options: StreamedAnswerOptions) {
    const { head, active } = options;
    this.head = { status: head.status, headers: keptHeaders(head.headers) };
    this.cursorOf = cursorsOf(active.claim);
    const type = String(head.headers['content-type'] ?? '');
    this.frames = type.startsWith('text/event-stream') ? new SseFrames() : undefined;
    const { signal } = active.context;
    signal.addEventListener('abort', () => this.aborted(signal.reason), { once: true });
    // Appends renew the lease whatever the run has taken, so its end has to be watched for here. Before the
    // first item there is no stream, and the claim ends as that of any handler.
    this.overdue = setTimeout(() => this.recorder && this.finish('timeout'), active.durationLeftMs);
    if (signal.aborted) this.aborted(signal.reason);
  }

  /** Whether something of it may have gone out. */
  get hasBegun(): boolean {
    return this.recorder !== undefined;
  }

  write(bytes: Buffer): boolean {
    return this.frames ? this.take(this.frames, bytes) : this.isDone || this.record(bytes);
  }

  writeText(text: string): boolean {
    return this.frames ? this.take(this.frames, text) : this.write(Buffer.from(text));
  }

  private take(into: SseFrames, piece: Buffer | string): boolean {
    if (this.isDone) return true;
    // Its first frame would only tell that the source has failed: then there is no stream, but an error.
    if (!this.recorder && this.options.sourceFailed()) return true;
    const frames = typeof piece === 'string' ? into.pushText(piece) : into.push(piece);
    if (!this.recorder && frames.length === 0)
      this.unframed.push(typeof piece === 'string' ? Buffer.from(piece) : piece);
    for (const frame of frames) this.record(this.itemOf(frame));
    // A frame without an end would gather in memory.
    if (into.waiting > this.options.limits.maxBytes) this.finish('truncated');
    // Nest drops a client that does not keep up with its source; here the log keeps up, or the limits say no.
    return true;
  }

  end(): void {
    if (this.isDone) return;
    const failed = this.options.sourceFailed();
    // A frame that was not finished stays so: clients take no notice of one, and must not of ours.
    const rest = this.recorder && !failed ? this.frames?.flush() : undefined;
    if (rest) this.record(this.itemOf(rest).subarray(0, -1));
    this.finish(failed ? 'failed' : 'complete');
  }

  /** The source was torn down in the middle. */
  fail(): void {
    this.finish('failed');
  }

  clientLeft(): void {
    this.left.abort();
  }

  /** Ends the feed of this process's followers: the outcome is written. */
  async close(end: StreamEnd | 'interrupted'): Promise<void> {
    this.recorder?.feed.close(end);
    await this.delivered;
    this.options.wire.finish();
  }

  private itemOf(frame: string): Buffer {
    return Buffer.from(withId(frame, this.cursorOf((this.recorder?.count ?? 0) + 1)));
  }

  private record(bytes: Buffer): boolean {
    this.recorder ??= this.begin();
    return this.recorder.push(bytes);
  }

  private begin(): StreamRecorder {
    const { engine, active, wire, limits } = this.options;
    const recorder = engine.streams.record(active, this.head, limits, {
      trouble: (trouble) => (trouble === 'lost' ? this.interrupt() : this.finish('truncated')),
      drain: () => wire.drain(),
    });
    const { stream } = recorder.feed;
    // The head goes out now that there is an item; the item itself once it is in the log.
    this.delivered = deliver({
      wire,
      stream,
      parts: engine.streams.follow(stream, 0, this.left.signal, recorder.feed),
      first: true,
      refuse: () => undefined,
      after: 0,
    });
    return recorder;
  }

  private aborted(reason: unknown): void {
    if (reason instanceof IdempotencyClaimLostError) this.interrupt();
    else if (reason instanceof IdempotencyCancelledError) this.finish('cancelled');
    else if (reason instanceof ClientLeftError) this.finish('cancelled');
    else this.interrupt();
  }

  private interrupt(): void {
    if (this.isDone) return;
    this.isDone = true;
    clearTimeout(this.overdue);
    this.options.wire.tearDown();
    this.options.done({ kind: 'interrupted' });
  }

  private finish(end: StreamEnd): void {
    if (this.isDone) return;
    this.isDone = true;
    clearTimeout(this.overdue);
    const { active, wire, done } = this.options;
    if (end === 'truncated' || end === 'timeout') {
      active.cancel(new IdempotencyStreamLimitError(end === 'timeout' ? 'too long' : 'too large'));
    }
    if (end !== 'complete' && end !== 'failed') wire.tearDown();
    if (!this.recorder) {
      if (end === 'complete' || end === 'failed') return done({ kind: 'empty', bytes: Buffer.concat(this.unframed) });
      if (active.cancelReason instanceof ClientLeftError) return done({ kind: 'unwanted' });
      this.recorder = this.begin(); // without an item it has an end all the same, to be told now and later
    }
    void this.recordRest(this.recorder, end);
  }

  private async recordRest(recorder: StreamRecorder, end: StreamEnd): Promise<void> {
    const { done } = this.options;
    const trouble = await recorder.finish();
    if (trouble === 'lost') return done({ kind: 'interrupted' });
    const answer: RecordedStream = {
      kept: 'stream',
      ...this.head,
      end: trouble === 'truncated' ? 'truncated' : end,
      items: recorder.count,
    };
    done({ kind: 'recorded', answer });
  }
}
