import type { CallHandler } from '@nestjs/common';
import type { Subscriber } from 'rxjs';
import type { ActiveRun } from '../core/active-run.js';
import { answerOfValue, notKept } from '../core/answer.js';
import { stayInside, withScope, type RunScope } from '../core/run-scope.js';
import { verdictOf } from '../core/errors.js';
import { askRecordWhen } from '../core/record-when.js';
import type { RecordedAnswer } from '../core/record.js';
import type { RunOutcome } from '../core/settle.js';
import { watchCall } from '../core/watch-call.js';
import type { Delivery } from './delivery.js';
import { answerOfError, Reply } from './message-reply.js';
import type { MessageRoute } from './message-route.js';

/** How a run ended, apart from what became of its record. */
export type End = { readonly kind: 'values' } | { readonly kind: 'error'; readonly error: unknown };

/** One run of a message handler under a claim, to the end of what it gives. */
export class MessageRun {
  private began = false;
  private handlerRuns = false;
  private handlerError: unknown;
  private end: End | undefined;
  private tell: (outcome: RunOutcome<void>) => void = () => undefined;
  private readonly reply: Reply;

  constructor(
    private readonly route: MessageRoute,
    private readonly next: CallHandler,
    private readonly outer: Subscriber<unknown>,
    private readonly delivery: Delivery | undefined,
  ) {
    this.reply = new Reply(route.policy.maxRecordBytes, route.policy.transaction);
  }

  /** Resolves once the handler and what it gives have ended; nothing of it has gone out by then. */
  run({ context }: ActiveRun): Promise<RunOutcome<void>> {
    return new Promise((resolve) => {
      const leave = stayInside();
      this.tell = (outcome) => {
        leave();
        resolve(outcome);
      };
      const scope: RunScope = {
        context,
        aroundHandler: (handler, start) => (this.isOwnStart(handler) ? this.callHandler(start) : start()),
      };
      withScope(scope, () =>
        this.next.handle().subscribe({
          next: (value: unknown) => this.emitted(value),
          error: (error: unknown) => this.failed(error),
          complete: () => this.completed(),
        }),
      );
    });
  }

  /** Gives the caller what the run came to, now that it is recorded. */
  deliver(): void {
    if (this.end?.kind === 'error') return this.outer.error(this.end.error);
    for (const value of this.reply.rest()) this.outer.next(value);
    this.outer.complete();
  }

  /** What the pipeline threw, where it threw. */
  get failure(): unknown {
    return this.end?.kind === 'error' ? this.end.error : undefined;
  }

  /** True for the call that Nest makes for this message; another decorated method called on the way is just a method. */
  private isOwnStart(handler: unknown): boolean {
    if (this.began || (this.route.handler !== undefined && handler !== this.route.handler)) return false;
    return (this.began = true);
  }

  private callHandler(start: () => unknown): unknown {
    this.handlerRuns = true;
    const leave = stayInside();
    return watchCall(start, (error) => {
      leave();
      this.handlerEnded(error);
    });
  }

  private handlerEnded(error: unknown): void {
    this.handlerRuns = false;
    this.handlerError = error;
    // The pipeline has given an error in the meantime (`timeout()`): what the handler made of it is known only now.
    if (this.end) this.tell(error === undefined ? this.record(notKept('late', null)) : this.verdict(error));
  }

  private emitted(value: unknown): void {
    // Nobody is told what a handler of events gives, so there is nothing to keep.
    const now = this.route.isEvent ? [value] : this.reply.add(value);
    for (const one of now) this.outer.next(one);
  }

  private completed(): void {
    this.end = { kind: 'values' };
    const { isEvent, policy } = this.route;
    this.tell(this.record(isEvent ? answerOfValue(undefined, policy.maxRecordBytes) : this.reply.answer()));
  }

  private failed(error: unknown): void {
    this.end = { kind: 'error', error };
    // An interceptor inside ours has lost patience. The claim is held until the handler has ended, the asker is not.
    if (this.handlerRuns) return this.outer.error(error);
    this.tell(this.verdict(error));
  }

  /** A run that has ended well, unless its handler gave the message back or the route says otherwise. */
  private record(answer: RecordedAnswer): RunOutcome<void> {
    const released =
      this.delivery?.wasGivenBack || askRecordWhen(this.route.recordWhen, { status: null }) === 'release';
    return released ? { kind: 'release', began: this.began } : { kind: 'record', answer };
  }

  private verdict(error: unknown): RunOutcome<void> {
    if (!this.began) return { kind: 'release', began: false };
    const cause = this.handlerError ?? error;
    switch (verdictOf(cause)) {
      case 'indeterminate':
        return { kind: 'unknown', began: true, declared: true, cause };
      case 'not-executed':
        return { kind: 'release', began: true };
      case undefined: {
        const said = askRecordWhen(this.route.recordWhen, { status: null, error: cause });
        if (said === 'release' || this.delivery?.wasGivenBack) return { kind: 'release', began: true };
        return { kind: 'record', answer: answerOfError(error, this.route.policy.maxRecordBytes) };
      }
    }
  }
}
