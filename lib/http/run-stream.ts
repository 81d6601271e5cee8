import type { ActiveRun } from '../core/active-run.js';
import type { Engine } from '../core/engine.js';
import { IdempotencyTooManyStreamsError } from '../core/errors.js';
import type { StreamEnd } from '../core/event-log.js';
import type { CurrentHead, StreamSink } from './held-body.js';
import type { HttpRoute } from './http-route.js';
import type { ResponseWire } from './response-wire.js';
import { StreamedAnswer, type StreamOutcome } from './streamed-answer.js';

/** Routes whose answers have been streams: of a handler that is no event source, nothing else tells. */
const streaming = new WeakSet<HttpRoute>();

/** The stream of a run, if its answer turns out to be one. */
export class RunStream {
  private answer: StreamedAnswer | undefined;
  private end: StreamEnd | undefined;

  constructor(
    private readonly route: HttpRoute,
    private readonly wire: ResponseWire,
    private readonly done: (outcome: StreamOutcome, head: CurrentHead) => void,
  ) {}

  /** Why a run of this route must not start now; undefined where it may, and is counted then if it will stream. */
  admit(engine: Engine, active: ActiveRun): IdempotencyTooManyStreamsError | undefined {
    if (!this.route.isSse && !streaming.has(this.route)) return undefined;
    if (!engine.streams.hasRoom) {
      return new IdempotencyTooManyStreamsError(
        'Too many streams run here whose clients have left. The request was not processed. Send it again later.',
      );
    }
    this.count(engine, active);
    return undefined;
  }

  /** Undefined where the body is not to be recorded as a stream. `bytes`: what there is of it already. */
  begin(
    engine: Engine,
    active: ActiveRun,
    head: CurrentHead,
    bytes: number,
    sourceFailed: () => boolean,
  ): StreamSink | undefined {
    const { transaction, stream: limits } = this.route.policy;
    if (!engine.streams.areKept || head.status >= 400 || transaction) return undefined;
    // Nothing of it could be kept; it goes out whole instead, as any other body that is too large.
    if (bytes > limits.maxBytes && !isEventStream(head)) return undefined;
    streaming.add(this.route);
    this.count(engine, active);
    const { wire } = this;
    const done = (outcome: StreamOutcome): void => {
      if (outcome.kind === 'recorded') this.end = outcome.answer.end;
      this.done(outcome, head);
    };
    this.answer = new StreamedAnswer({ engine, active, wire, limits, head, sourceFailed, done });
    if (wire.isClientGone) this.answer.clientLeft();
    return this.answer;
  }

  /** Whether the body is taken for a stream. */
  get isOpen(): boolean {
    return this.answer !== undefined;
  }

  /** Whether something of it may have gone out. */
  get hasBegun(): boolean {
    return this.answer?.hasBegun ?? false;
  }

  /** The source was torn down in the middle. */
  fail(): void {
    this.answer?.fail();
  }

  clientLeft(): void {
    this.answer?.clientLeft();
  }

  /** Ends it for its followers in this process: its outcome is recorded. */
  async close(): Promise<void> {
    await this.answer?.close(this.end ?? 'interrupted');
  }

  /** Ends it for them without an outcome: it could not be recorded. */
  async interrupt(): Promise<void> {
    await this.answer?.close('interrupted');
  }

  private count(engine: Engine, active: ActiveRun): void {
    engine.streams.count(active.claim, () => this.wire.isClientGone);
  }
}

export function isEventStream({ headers }: CurrentHead): boolean {
  return String(headers['content-type'] ?? '').startsWith('text/event-stream');
}
