import type { CallHandler } from '@nestjs/common';
import type { Subscriber, Subscription } from 'rxjs';
import type { ActiveRun } from '../core/active-run.js';
import { notKept } from '../core/answer.js';
import { stayInside, withScope, type RunScope } from '../core/run-scope.js';
import type { Engine } from '../core/engine.js';
import { ClientLeftError, IdempotencyCancelledError, type IdempotencyError } from '../core/errors.js';
import type { RecordedAnswer } from '../core/record.js';
import type { RunOutcome } from '../core/settle.js';
import { eventsOf } from './async-events.js';
import type { CurrentHead, StreamSink } from './held-body.js';
import type { HttpRoute } from './http-route.js';
import { keptHeaders } from './kept-headers.js';
import type { HeldResponse, WireHolder } from './wire-holder.js';
import type { ResponseWire } from './response-wire.js';
import { answerOf, answerOfFailure, answerOfNotExecuted, outcomeOf, statusOf, type Substitute } from './run-outcome.js';
import { watchCall } from '../core/watch-call.js';
import { isUnwritable } from './unwritable.js';
import { RunStream } from './run-stream.js';
import type { StreamOutcome } from './streamed-answer.js';

/**
 * One run of a handler under a claim: from the moment its response is held to the moment its outcome
 * is known. The outcome is what went over the wire, with two questions asked of the pipeline: did
 * the handler begin, and has it ended?
 */
export class HttpRun implements WireHolder {
  private active: ActiveRun | undefined;
  private began = false;
  private handlerRuns = false;
  private handlerError: unknown;
  private emitted = 0;
  private value: unknown;
  private innerEnded = false;
  private innerFailed = false;
  private outerLeft = false;
  private isHolding = false;
  private inner: Subscription | undefined;
  private outer: Subscriber<unknown> | undefined;
  private answeredEarly = false;
  private readonly stream: RunStream;
  private sourceBroke = false;
  private substitute: Substitute | undefined;
  private engine: Engine | undefined;
  private refusal: IdempotencyError | undefined;
  private tell: ((outcome: RunOutcome<void>) => void) | undefined;

  constructor(
    private readonly route: HttpRoute,
    private readonly wire: ResponseWire,
  ) {
    this.stream = new RunStream(route, wire, (outcome, head) => this.streamDone(outcome, head));
  }

  /** Holds the response; resolves once it is known what came of the run. */
  begin(engine: Engine, active: ActiveRun, outer: Subscriber<unknown>, launch: () => void): Promise<RunOutcome<void>> {
    this.refusal = this.stream.admit(engine, active);
    if (this.refusal) return Promise.resolve({ kind: 'release', began: false });
    this.engine = engine;
    this.active = active;
    if (outer.closed) {
      // Somebody outside has answered while the claim was made (`timeout()`): the handler need not start.
      this.answeredEarly = true;
      return Promise.resolve({ kind: 'release', began: false });
    }
    return new Promise<RunOutcome<void>>((resolve) => {
      const leave = stayInside();
      this.tell = (outcome) => {
        leave();
        resolve(outcome);
      };
      this.hold();
      active.onCancel((reason) => this.cancelledUnseen(reason));
      launch();
    });
  }

  /** An event stream's head is sent on the next turn of the event loop: it has to be held before the claim is even asked for. */
  hold(): void {
    if (this.isHolding) return;
    this.isHolding = true;
    // Nothing of an answer may go out before its transaction has committed, however large it is.
    const { transaction, maxRecordBytes } = this.route.policy;
    this.wire.hold(transaction ? Infinity : maxRecordBytes, this);
  }

  /** Whether this run has a claim. */
  get isClaimed(): boolean {
    return this.active !== undefined;
  }

  /** Whether the client got another answer, before the handler had ended. */
  get wasAnsweredEarly(): boolean {
    return this.answeredEarly;
  }

  /** Starts what is inside our interceptor and passes on what it emits. */
  subscribe(next: CallHandler, scope: RunScope, outer: Subscriber<unknown>): void {
    this.passOnTo(outer);
    const leave = stayInside();
    withScope(scope, () => {
      const source = this.route.isSse ? eventsOf(next.handle()) : next.handle();
      this.inner = source.subscribe({
        next: (value: unknown) => {
          this.emitted += 1;
          this.value = value;
          if (!this.outerLeft) this.outer?.next(value);
        },
        error: (error: unknown) => {
          this.innerEnded = this.innerFailed = true;
          // While the handler runs, this is somebody else's error: an interceptor inside ours lost patience.
          if (this.began && !this.handlerRuns) this.handlerError ??= error;
          if (this.outerLeft) this.lateEnd();
          else this.outer?.error(error);
        },
        complete: () => {
          this.innerEnded = true;
          if (this.outerLeft) this.lateEnd();
          else this.outer?.complete();
        },
      });
      this.inner.add(leave);
    });
  }

  /** For somebody who subscribes once more: to the handler that still runs, else to a new run under the same claim. */
  subscribeAgain(next: CallHandler, scope: RunScope, outer: Subscriber<unknown>): void {
    if (!this.innerEnded) {
      this.outerLeft = false;
      this.passOnTo(outer);
      return;
    }
    this.innerEnded = this.innerFailed = false;
    this.handlerError = this.value = undefined;
    this.emitted = 0;
    this.subscribe(next, scope, outer);
  }

  /** Calls the handler and watches it end. */
  callHandler(start: () => unknown): unknown {
    this.began = true;
    this.handlerRuns = true;
    const leave = stayInside();
    return watchCall(start, (error) => {
      leave();
      this.handlerEnded(error);
    });
  }

  private handlerEnded(error: unknown): void {
    this.handlerRuns = false;
    if (error !== undefined) this.handlerError = error;
    this.lateEnd();
  }

  private passOnTo(outer: Subscriber<unknown>): void {
    this.outer = outer;
    outer.add(() => {
      if (this.outer === outer) this.outerUnsubscribed();
    });
  }

  /**
   * An interceptor outside of ours has let go: the source is not needed any more, or it has lost
   * patience (`timeout()`). In the second case the handler runs on: its effect may have happened.
   */
  private outerUnsubscribed(): void {
    if (this.innerEnded) return;
    if (this.emitted > 0 || !this.isClaimed) {
      this.innerEnded = true;
      this.inner?.unsubscribe();
      return;
    }
    this.outerLeft = true;
  }

  left(): void {
    this.stream.clientLeft();
    if (this.route.onDisconnect === 'cancel') this.active?.cancel(new ClientLeftError());
  }

  failed(error: Error | undefined): void {
    this.handlerError ??= error;
    this.sourceBroke = true;
    if (this.stream.isOpen) return this.stream.fail();
    this.tell?.(this.verdict(500, () => notKept('not_serialisable', null)));
  }

  streams(head: CurrentHead, bytes: number): StreamSink | undefined {
    const { active, engine } = this;
    if (!active || !engine || this.innerFailed) return undefined;
    return this.stream.begin(engine, active, head, bytes, () => this.innerFailed);
  }

  ended(held: HeldResponse): void {
    const pipelineGaveUp = this.outerLeft || this.innerFailed;
    if (pipelineGaveUp && (this.handlerRuns || !this.innerEnded)) {
      // Somebody else answered. That answer is not the outcome and goes out at once; the claim is
      // held until the handler has ended.
      this.answeredEarly = true;
      this.wire.letGo();
      return;
    }
    // Nest says in the stream that its source has failed; before the first event it can be said properly.
    if (this.route.isSse && this.innerFailed) this.tell?.(this.failedBeforeFirstEvent());
    else this.tell?.(this.outcomeOfHeld(held));
  }

  /**
   * Sends what the run came to, once that is recorded.
   * @throws IdempotencyError where it was not let to start
   */
  async deliver(): Promise<void> {
    if (this.refusal) throw this.refusal;
    if (this.answeredEarly) return;
    if (this.substitute) this.wire.replace(this.substitute.status, this.substitute.headers, this.substitute.body);
    else if (this.stream.isOpen) await this.stream.close();
    else this.wire.letGo();
  }

  /** Ends a stream whose outcome could not be recorded. False: nothing of one is out, and another answer can be given. */
  async interruptStream(): Promise<boolean> {
    if (!this.stream.hasBegun || this.substitute) return false;
    await this.stream.interrupt();
    return true;
  }

  private streamDone(outcome: StreamOutcome, head: CurrentHead): void {
    switch (outcome.kind) {
      case 'recorded':
        if (outcome.answer.end !== 'complete' && outcome.answer.end !== 'failed') this.inner?.unsubscribe();
        return this.tell?.({ kind: 'record', answer: outcome.answer });
      case 'interrupted':
        this.inner?.unsubscribe();
        return this.tell?.({ kind: 'unknown', began: true });
      case 'unwanted':
        this.inner?.unsubscribe();
        return this.releaseUnseen();
      case 'empty': {
        if (this.innerFailed || this.sourceBroke) return this.tell?.(this.failedBeforeFirstEvent());
        const headers = keptHeaders(head.headers);
        this.substitute = { status: head.status, headers, body: outcome.bytes };
        return this.tell?.(this.outcomeOfHeld({ status: head.status, headers: head.headers, body: outcome.bytes }));
      }
    }
  }

  private failedBeforeFirstEvent(): RunOutcome<void> {
    const substitute = (this.substitute = answerOfFailure(this.handlerError));
    return this.verdict(substitute.status, () => ({ kept: true, ...substitute }));
  }

  /** A run that is cancelled before it has sent anything ends by itself, if its handler listens; an event source is made to. */
  private cancelledUnseen(reason: unknown): void {
    if (this.stream.isOpen || !this.route.isSse) return;
    const isWanted = reason instanceof IdempotencyCancelledError;
    if (isWanted) this.wire.startStream();
    if (this.stream.isOpen) return; // it has its end, for this client and for later ones
    this.inner?.unsubscribe();
    this.innerEnded = true;
    // A lost claim, or the end of the process: what the handler has done by now is not known.
    if (isWanted || reason instanceof ClientLeftError) this.releaseUnseen();
    else this.tell?.({ kind: 'unknown', began: this.began });
  }

  /** Nobody has seen anything of it, so that the next retry may run. */
  private releaseUnseen(): void {
    this.substitute = { status: 409, headers: [], body: Buffer.alloc(0) };
    this.tell?.({ kind: 'release', began: true });
  }

  /** The end of a handler whose client has been answered by something else. */
  private lateEnd(): void {
    if (!this.answeredEarly || this.handlerRuns || !this.innerEnded) return;
    const error = this.handlerError;
    if (error === undefined) return this.tell?.({ kind: 'record', answer: notKept('late', null) });
    this.tell?.(this.verdict(statusOf(error), () => notKept('late', statusOf(error))));
  }

  private outcomeOfHeld(held: HeldResponse): RunOutcome<void> {
    this.substitute ??= answerOfNotExecuted(this.handlerError);
    // A success that an interceptor gave in the handler's place has been promised to the client as well.
    if (!this.began && held.status >= 400) return { kind: 'release', began: false };
    // It has done its work; only the platform could not write its value, and never will.
    if (held.status >= 500 && this.handlerError === undefined && isUnwritable(this.value))
      return { kind: 'record', answer: notKept('not_serialisable', null) };
    return this.verdict(held.status, () => answerOf(held, this.route.policy.maxRecordBytes));
  }

  private verdict(status: number, answer: () => RecordedAnswer): RunOutcome<void> {
    return outcomeOf(this.route.recordWhen, status, this.handlerError, answer);
  }
}
