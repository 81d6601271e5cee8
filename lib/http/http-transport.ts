import { AsyncResource } from 'node:async_hooks';
import { Logger, type CallHandler, type ExecutionContext } from '@nestjs/common';
import { Observable, type Subscriber } from 'rxjs';
import type { ActiveRun } from '../core/active-run.js';
import type { RunScope } from '../core/context.js';
import { withScope } from '../core/context.js';
import type { Engine, Execution } from '../core/engine.js';
import { IdempotencyError, IdempotencyOutcomeUnknownError, IdempotencyResponseNotKeptError } from '../core/errors.js';
import type { RecordedAnswer } from '../core/record.js';
import { bodyComesLater, readFingerprint, readKey, readScope } from './http-call.js';
import { HttpExchange } from './http-request.js';
import type { HttpRoute } from './http-route.js';
import { HttpRun } from './http-run.js';
import { IdempotencyHttpException, problemOf } from './problem.js';
import { ResponseWire } from './response-wire.js';

/** Methods that are idempotent by definition and change nothing: a key on them is ignored. */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

const REPLAYED = ['idempotent-replayed', 'true'] as const;

/** Takes an HTTP request through the engine: key and fingerprint from the request, the answer to the wire. */
export class HttpTransport {
  private readonly logger = new Logger('Idempotency');

  constructor(private readonly engine: () => Promise<Engine>) {}

  handle(route: HttpRoute, context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const exchange = new HttpExchange(context);
    if (SAFE_METHODS.has(exchange.method)) return next.handle();
    // The caller's async context (a transaction, a logger's request id) is that of this call, not of
    // the moment at which somebody subscribes.
    const resource = new AsyncResource('IdempotencyInterceptor');
    return new Observable<unknown>((outer) => {
      const request = new HttpRequest(this.engine, this.logger, route, context, exchange, next, outer);
      void resource.runInAsyncScope(() => request.go());
    });
  }
}

/** One request on its way. */
class HttpRequest {
  private readonly wire: ResponseWire;
  private readonly run: HttpRun;
  private handlerCalled = false;

  constructor(
    private readonly engine: () => Promise<Engine>,
    private readonly logger: Logger,
    private readonly route: HttpRoute,
    private readonly context: ExecutionContext,
    private readonly exchange: HttpExchange,
    private readonly next: CallHandler,
    private readonly outer: Subscriber<unknown>,
  ) {
    this.wire = new ResponseWire(exchange.request, exchange.response);
    this.run = new HttpRun(route, this.wire);
  }

  async go(): Promise<void> {
    try {
      const key = await readKey(this.route, this.context, this.exchange);
      if (key === undefined && this.route.key !== 'fingerprint') {
        this.next.handle().subscribe(this.outer);
      } else if (bodyComesLater(this.route, this.exchange)) {
        const scope: RunScope = {
          aroundHandler: (handler, start) =>
            this.isOwnStart(handler) ? this.claimThenStart(key, scope, start) : start(),
        };
        this.run.subscribe(this.next, scope, this.outer);
      } else {
        await this.claimThenSubscribe(key);
      }
    } catch (error) {
      this.refuse(error);
      this.outer.error(this.exceptionOf(error));
    }
  }

  private async claimThenSubscribe(key: string | undefined): Promise<void> {
    const scope: RunScope = {
      aroundHandler: (handler, start) => (this.isOwnStart(handler) ? this.run.callHandler(start) : start()),
    };
    const execution = await this.execute(key, (active) => {
      scope.context = active.context;
      return this.run.begin(active, this.outer, () => this.run.subscribe(this.next, scope, this.outer));
    });
    if (this.run.isClaimed) return; // the pipeline has run, and has ended by itself
    if (execution === 'replayed') {
      // The answer is out. What is left of the pipeline ends as after a handler that returns nothing.
      this.outer.next(undefined);
      this.outer.complete();
    }
  }

  /** The way of an upload: pipes and inner interceptors are done, and the handler waits for the claim. */
  private claimThenStart(key: string | undefined, scope: RunScope, start: () => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.execute(key, (active) => {
        scope.context = active.context;
        return this.run.begin(active, this.outer, () => {
          try {
            resolve(withScope(scope, () => this.run.callHandler(start)));
          } catch (error) {
            reject(error as Error);
          }
        });
      }).then(
        () => resolve(undefined),
        (error: unknown) => {
          this.refuse(error);
          reject(this.exceptionOf(error) as Error);
        },
      );
    });
  }

  private async execute(
    sentKey: string | undefined,
    begin: (active: ActiveRun) => ReturnType<HttpRun['begin']>,
  ): Promise<'ran' | 'replayed'> {
    const { route, context, exchange } = this;
    const scope = await readScope(route, context);
    const fingerprint = await readFingerprint(route, context, exchange);
    const engine = await this.engine();
    const callerLeft = route.policy.inFlight === 'join' ? this.signalOfLeaving() : undefined;
    const execution = await engine.execute<void>(
      {
        scope,
        operation: `${exchange.method} ${exchange.routePattern}`,
        key: sentKey ?? fingerprint,
        fingerprint,
        policy: route.policy,
        callerLeft,
      },
      begin,
    );
    this.deliver(execution);
    return execution.kind === 'replay' ? 'replayed' : 'ran';
  }

  /** True for the call that Nest makes for this request; another decorated method called on the way is just a method. */
  private isOwnStart(handler: unknown): boolean {
    if (this.handlerCalled || (this.route.handler !== undefined && handler !== this.route.handler)) return false;
    this.handlerCalled = true;
    return true;
  }

  private deliver(execution: Execution<void>): void {
    if (this.run.wasAnsweredEarly) return;
    if (execution.kind === 'replay') this.replay(execution.answer);
    else this.wire.letGo();
  }

  private replay(answer: RecordedAnswer): void {
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
  private refuse(error: unknown): void {
    if (this.run.wasAnsweredEarly) return;
    const problem = this.problemOf(error);
    if (!problem) return;
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
    if (error.code === 'idempotency_store_unavailable') this.logger.error(`${error.message}${causeOf(error)}`);
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
