import { AsyncResource } from 'node:async_hooks';
import { Logger, type CallHandler, type ExecutionContext } from '@nestjs/common';
import { Observable, type Subscriber } from 'rxjs';
import type { Engine } from '../core/engine.js';
import { IdempotencyError, IdempotencyResponseNotKeptError } from '../core/errors.js';
import type { RecordedAnswer } from '../core/record.js';
import { Delivery, type Fate } from './delivery.js';
import { readFingerprint, readKey, readScope } from './message-call.js';
import { replyOf } from './message-reply.js';
import type { MessageRoute } from './message-route.js';
import { MessageRun } from './message-run.js';
import { loadMicroservices, rpcErrorBody } from './microservices.js';

/** How long a message rests before it goes back into its queue: long enough for a turn of a queue that has nothing else. */
const FIRST_PAUSE_MS = 1_000;
/** A message that rests holds a place of the consumer's prefetch, so not for longer than this. */
const LONGEST_PAUSE_MS = 10_000;

/** Takes a message of Nest's microservices through the engine: key and fingerprint from the message, the reply to its asker. */
export class MessageTransport {
  private readonly logger = new Logger('Idempotency');

  constructor(private readonly engine: () => Promise<Engine>) {}

  handle(route: MessageRoute, context: ExecutionContext, next: CallHandler): Observable<unknown> {
    // The caller's async context (a logger's request id, say) is that of this call, not of the moment at which somebody subscribes.
    const resource = new AsyncResource('IdempotencyInterceptor');
    return new Observable<unknown>((outer) => {
      const message = new Message(this.engine, this.logger, route, context, next, outer);
      // Nobody's leaving stops it: who was told of a message cannot take it back.
      void resource.runInAsyncScope(() => message.go());
    });
  }
}

/** One message on its way. */
class Message {
  private readonly delivery: Delivery | undefined;
  private attempt = 1;

  constructor(
    private readonly engine: () => Promise<Engine>,
    private readonly logger: Logger,
    private readonly route: MessageRoute,
    private readonly context: ExecutionContext,
    private readonly next: CallHandler,
    private readonly outer: Subscriber<unknown>,
  ) {
    this.delivery = Delivery.of(context, route);
  }

  async go(): Promise<void> {
    try {
      const key = await readKey(this.route, this.context);
      if (key === undefined && this.route.key !== 'fingerprint') this.runUnprotected();
      else await this.runOnce(key);
    } catch (error) {
      await this.refuse(error);
    }
  }

  private async runOnce(sentKey: string | undefined): Promise<void> {
    const { route, context } = this;
    const scope = await readScope(route, context);
    const fingerprint = await readFingerprint(route, context);
    const engine = await this.engine();
    const run = new MessageRun(route, this.next, this.outer, this.delivery);
    const call = {
      scope,
      operation: route.operation,
      key: sentKey ?? fingerprint,
      fingerprint,
      policy: route.policy,
    };
    const execution = await engine.execute<void>(call, (active) => {
      this.attempt = active.context.attempt;
      return run.run(active);
    });
    switch (execution.kind) {
      case 'ran': {
        const { failure } = run;
        run.deliver();
        return this.settle(execution.outcome.kind === 'release' && failure !== undefined ? this.fateOfFailure : 'done');
      }
      case 'replay':
        await this.replay(execution.answer);
        return this.settle('done');
      case 'follow':
        // The call does not say that it can follow a stream.
        throw new TypeError('A message cannot be answered by a stream of events.');
    }
  }

  private async replay(answer: RecordedAnswer): Promise<void> {
    if (answer.kept !== true) {
      // Whoever is told, and not asked, has nothing to be given.
      if (this.route.isEvent) return this.give([undefined]);
      throw new IdempotencyResponseNotKeptError(
        'This message has been processed, but its reply was not kept. It will not run again.',
      );
    }
    const reply = replyOf(answer);
    if ('values' in reply) return this.give(reply.values);
    this.outer.error((await loadMicroservices()).exception(reply.error));
  }

  private give(values: readonly unknown[]): void {
    for (const value of values) this.outer.next(value);
    this.outer.complete();
  }

  /** Without a key, where none is required: as if the decorator were not there, but for who acknowledges. */
  private runUnprotected(): void {
    this.next.handle().subscribe({
      next: (value: unknown) => this.outer.next(value),
      error: (error: unknown) => {
        this.outer.error(error);
        this.settle(this.fateOfFailure);
      },
      complete: () => {
        this.outer.complete();
        this.settle('done');
      },
    });
  }

  private async refuse(error: unknown): Promise<void> {
    const fate = fateOfRefusal(error);
    if (error instanceof IdempotencyError) {
      this.log(error, fate);
      // Nobody is to be told, and nothing is wrong: Nest would log each one as an error of the application.
      if (this.route.isEvent && this.delivery && error.code === 'idempotency_in_progress') this.outer.complete();
      else this.outer.error((await loadMicroservices()).exception(rpcErrorBody(error), error));
    } else {
      this.outer.error(error);
    }
    this.settle(fate, false);
  }

  /** A handler that has failed is asked again by its asker; one that was told of something, by the queue. */
  private get fateOfFailure(): Fate {
    return this.delivery && (this.delivery.wasAcked || this.delivery.isAsked) ? 'done' : 'again';
  }

  private settle(fate: Fate, heedsAck = true): void {
    const { delivery, attempt } = this;
    if (!delivery) return;
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), LONGEST_PAUSE_MS);
    // After the reply, which Nest sends on a later turn: a message whose reply got lost comes again.
    setImmediate(() => delivery.settle(this.route.operation, { fate, pauseMs, heedsAck }));
  }

  private log(error: IdempotencyError, fate: Fate): void {
    const { cause } = error;
    const line = `${this.route.operation}: not run (${error.code}). ${error.message}${cause instanceof Error ? ` (${cause.message})` : ''}${this.delivery ? ` ${FATES[fate]}` : ''}`;
    // A duplicate that comes too early is everyday business; one that nobody will see again is not.
    if (fate === 'done' || error.code === 'idempotency_in_progress') this.logger.debug(line);
    else if (error.code === 'idempotency_outcome_unknown') this.logger.warn(line);
    else this.logger.error(line);
  }
}

const FATES: Readonly<Record<Fate, string>> = {
  done: 'The message is acknowledged.',
  again: 'The message goes back into its queue.',
  never: 'The message is rejected: it goes to the dead-letter exchange of its queue, if that has one.',
};

/** What becomes of a message that was not run: nothing that comes later can settle a key that is missing or wrong. */
function fateOfRefusal(error: unknown): Fate {
  if (!(error instanceof IdempotencyError)) return 'again';
  switch (error.code) {
    case 'idempotency_key_missing':
    case 'idempotency_key_invalid':
    case 'idempotency_key_reused':
      return 'never';
    case 'idempotency_response_not_kept':
      return 'done';
    default:
      return 'again';
  }
}
