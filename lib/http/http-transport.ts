import { AsyncResource } from 'node:async_hooks';
import { Logger, type CallHandler, type ExecutionContext } from '@nestjs/common';
import { EMPTY, Observable, type Subscriber } from 'rxjs';
import type { ActiveRun } from '../core/active-run.js';
import { withScope, type RunScope } from '../core/run-scope.js';
import type { Engine, IdempotentCall } from '../core/engine.js';
import type { StreamRef } from '../core/event-log.js';
import { IdempotencyError, IdempotencyOutcomeUnknownError, IdempotencyResponseNotKeptError } from '../core/errors.js';
import type { RecordedAnswer } from '../core/record.js';
import { recordKeyOf } from '../core/record-key.js';
import { bodyComesLater, readFingerprint, readKey, readScope } from './http-call.js';
import { HttpExchange } from './http-request.js';
import type { HttpRoute } from './http-route.js';
import { HttpRun } from './http-run.js';
import { readCursor, refusalOf } from './last-event-id.js';
import { IdempotencyHttpException, problemOf } from './problem.js';
import { ResponseWire } from './response-wire.js';
import { statusOf } from './run-outcome.js';
import { deliver } from './stream-delivery.js';

/** Methods that are idempotent by definition and change nothing: a key on them is ignored. */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

const REPLAYED = ['idempotent-replayed', 'true'] as const;
const COMPLETE = ['idempotency-stream', 'complete'] as const;
const NOTHING = Buffer.alloc(0);

/** Takes an HTTP request through the engine: key and fingerprint from the request, the answer to the wire. */
export class HttpTransport {
  private readonly logger = new Logger('Idempotency');
  /** Where a request carries its way through us: an interceptor outside of ours may call for it more than once (`retry()`). */
  private readonly mark = Symbol('idempotent request');

  constructor(private readonly engine: () => Promise<Engine>) {}

  handle(route: HttpRoute, context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const exchange = new HttpExchange(context);
    if (SAFE_METHODS.has(exchange.method) && !route.isSse) return next.handle();
    // The head of an event stream, and no source for what nobody gets.
    if (exchange.method === 'HEAD') return EMPTY;
    if (exchange.method === 'OPTIONS') return next.handle();
    // The caller's async context (a transaction, a logger's request id) is that of this call, not of
    // the moment at which somebody subscribes.
    const resource = new AsyncResource('IdempotencyInterceptor');
    const marked = exchange.request as unknown as Record<symbol, HttpRequest | undefined>;
    const request = (marked[this.mark] ??= new HttpRequest(this.engine, this.logger, route, context, exchange));
    return new Observable<unknown>((outer) => void resource.runInAsyncScope(() => request.subscribe(next, outer)));
  }
}

/** One request on its way. */
class HttpRequest {
  private handlerCalled = false;
  private scope: RunScope | undefined;
  private refusedWith: unknown;
  private next!: CallHandler;
  private outer!: Subscriber<unknown>;
  /** Whether key and claim are being asked for. */
  private isGoing = false;
  private readonly wire: ResponseWire;
  private readonly run: HttpRun;

  constructor(
    private readonly engine: () => Promise<Engine>,
    private readonly logger: Logger,
    private readonly route: HttpRoute,
    private readonly context: ExecutionContext,
    private readonly exchange: HttpExchange,
  ) {
    this.wire = new ResponseWire(exchange.request, exchange.response);
    this.run = new HttpRun(route, this.wire);
    if (route.isSse) this.run.hold();
  }

  async subscribe(next: CallHandler, outer: Subscriber<unknown>): Promise<void> {
    this.next = next;
    this.outer = outer;
    // The second time: an answer that is out stays, and what runs runs under the claim that it has.
    if (this.refusedWith !== undefined) {
      outer.error(this.refusedWith);
    } else if (this.scope && this.run.isClaimed) {
      this.handlerCalled = false;
      this.run.subscribeAgain(next, this.scope, outer);
    } else if (!this.isGoing) {
      this.isGoing = true;
      await this.go();
    }
  }

  private async go(): Promise<void> {
    try {
      const key = await readKey(this.route, this.context, this.exchange);
      if (key === undefined && this.route.key !== 'fingerprint') {
        this.wire.unhold();
        this.next.handle().subscribe(this.outer);
      } else if (bodyComesLater(this.route, this.exchange)) {
        const scope: RunScope = {
          aroundHandler: (handler, start) => {
            if (!this.isOwnStart(handler)) return start();
            return this.run.isClaimed ? this.run.callHandler(start) : this.claimThenStart(key, scope, start);
          },
        };
        this.scope = scope;
        this.run.subscribe(this.next, scope, this.outer);
      } else {
        await this.claimThenSubscribe(key);
      }
    } catch (error) {
      this.isGoing = false;
      await this.refuse(error);
      // An event stream's errors are written into the stream, past the filters: there is none any more.
      if (this.route.isSse) this.outer.complete();
      else this.outer.error(this.exceptionOf(error));
    }
  }

  private async claimThenSubscribe(key: string | undefined): Promise<void> {
    const scope: RunScope = {
      aroundHandler: (handler, start) => (this.isOwnStart(handler) ? this.run.callHandler(start) : start()),
    };
    this.scope = scope;
    const execution = await this.execute(key, (engine, active) => {
      scope.context = active.context;
      return this.run.begin(engine, active, this.outer, () => this.run.subscribe(this.next, scope, this.outer));
    });
    if (this.run.isClaimed) return; // the pipeline has run, and has ended by itself
    if (execution === 'replayed') {
      // The answer is out. What is left of the pipeline ends as after a handler that returns nothing.
      if (!this.route.isSse) this.outer.next(undefined);
      this.outer.complete();
    }
  }

  /** The way of an upload: pipes and inner interceptors are done, and the handler waits for the claim. */
  private claimThenStart(key: string | undefined, scope: RunScope, start: () => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.execute(key, (engine, active) => {
        scope.context = active.context;
        return this.run.begin(engine, active, this.outer, () => {
          try {
            resolve(withScope(scope, () => this.run.callHandler(start)));
          } catch (error) {
            reject(error as Error);
          }
        });
      }).then(
        () => resolve(undefined),
        (error: unknown) => {
          void this.refuse(error);
          reject(this.exceptionOf(error) as Error);
        },
      );
    });
  }

  private async execute(
    sentKey: string | undefined,
    begin: (engine: Engine, active: ActiveRun) => ReturnType<HttpRun['begin']>,
  ): Promise<'ran' | 'replayed'> {
    const { route, context, exchange } = this;
    const scope = await readScope(route, context);
    const fingerprint = await readFingerprint(route, context, exchange);
    const engine = await this.engine();
    const callerLeft = route.policy.inFlight === 'join' ? this.signalOfLeaving() : undefined;
    const call: IdempotentCall = {
      scope,
      operation: `${exchange.method} ${exchange.routePattern}`,
      key: sentKey ?? fingerprint,
      fingerprint,
      policy: route.policy,
      callerLeft,
      canFollow: engine.streams.areKept,
    };
    const cursor = readCursor(exchange.request);
    if (cursor) {
      const { stream, after } = await engine.streams.resume({ recordKey: recordKeyOf(call), fingerprint }, cursor);
      await this.follow(engine, stream, after);
      return 'replayed';
    }
    const execution = await engine.execute<void>(call, (active) => begin(engine, active));
    switch (execution.kind) {
      case 'ran':
        await this.run.deliver();
        return 'ran';
      case 'replay':
        this.replay(execution.answer);
        return 'replayed';
      case 'follow':
        await this.follow(engine, execution.stream, 0);
        return 'replayed';
    }
  }

  /**
   * Sends a stream that another request runs, or has run. A browser comes back whenever a stream ends,
   * and for ever unless it is answered 204: so it is once it has seen all of it.
   */
  private async follow(engine: Engine, stream: StreamRef, after: number): Promise<void> {
    const left = this.signalOfLeaving();
    let refusal: IdempotencyError | undefined;
    this.exchange.adoptPlatformHeaders();
    this.exchange.muteViews();
    this.wire.takeOver();
    await deliver({
      wire: this.wire,
      stream,
      parts: engine.streams.follow(stream, after, left),
      first: false,
      after,
      refuse: (why) => (refusal = refusalOf(why, after)),
      seenAll: this.exchange.method === 'GET' ? () => this.wire.replace(204, [REPLAYED, COMPLETE], NOTHING) : undefined,
    });
    if (refusal) throw refusal;
    this.wire.finish();
  }

  /** True for the call that Nest makes for this request; another decorated method called on the way is just a method. */
  private isOwnStart(handler: unknown): boolean {
    if (this.handlerCalled || (this.route.handler !== undefined && handler !== this.route.handler)) return false;
    this.handlerCalled = true;
    return true;
  }

  private replay(answer: RecordedAnswer): void {
    if (this.run.wasAnsweredEarly) return;
    if (answer.kept !== true) {
      throw new IdempotencyResponseNotKeptError(
        'This request has completed, but its response was not kept. It will not run again.',
      );
    }
    this.exchange.adoptPlatformHeaders();
    this.exchange.muteViews();
    this.wire.replace(answer.status ?? this.exchange.presetStatus, [...answer.headers, REPLAYED], answer.body);
  }

  /** Writes the answer of an error of ours. Other errors are left to the application's filters. */
  private async refuse(error: unknown): Promise<void> {
    if (this.run.wasAnsweredEarly) return;
    if (await this.run.interruptStream()) return;
    const problem = this.problemOf(error);
    if (!problem) {
      // For a filter to answer: but an event stream has none, so its error is answered here.
      if (this.route.isSse) this.wire.replace(statusOf(error), [], Buffer.alloc(0));
      return;
    }
    this.refusedWith = this.exceptionOf(error);
    this.exchange.adoptPlatformHeaders();
    this.wire.replace(problem.status, problem.headers, Buffer.from(JSON.stringify(problem.body)));
  }

  private problemOf(error: unknown): ReturnType<typeof problemOf> | undefined {
    if (!(error instanceof IdempotencyError)) {
      if (!this.run.isClaimed) return undefined;
      // The response is held and nobody else will answer; what became of the run is not known here.
      this.logger.error(error);
      return problemOf(
        new IdempotencyOutcomeUnknownError('The outcome of this request is not known.'),
        this.route.documentationUrl,
      );
    }
    if (error.code === 'idempotency_too_many_streams') this.logger.warn(error.message);
    if (error.code === 'idempotency_store_unavailable') this.logger.error(`${error.message}${causeOf(error)}`);
    // What a recover function threw, or gave instead of an answer, would be seen by nobody.
    if (error.code === 'idempotency_outcome_unknown' && error.cause) this.logger.warn(`${error.code}${causeOf(error)}`);
    return problemOf(error, this.route.documentationUrl);
  }

  private exceptionOf(error: unknown): unknown {
    if (!(error instanceof IdempotencyError)) return error;
    return new IdempotencyHttpException(problemOf(error, this.route.documentationUrl), error);
  }

  private signalOfLeaving(): AbortSignal {
    const left = new AbortController();
    const { response } = this.exchange;
    if (response.destroyed) left.abort();
    else response.once('close', () => left.abort());
    return left.signal;
  }
}

function causeOf(error: Error): string {
  return error.cause instanceof Error ? ` (${error.cause.message})` : '';
}
