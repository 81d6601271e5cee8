import { createParamDecorator, SetMetadata, type ExecutionContext } from '@nestjs/common';
import type { StepContext } from '../core/steps.js';
import type { IdempotencyRunContext, RunManager } from '../core/context.js';
import { currentScope, type RunScope } from '../core/run-scope.js';
import type { IdempotencyRouteOptions } from './options.js';

/** Where the decorator leaves its options; a text, so that both builds of the package find it. */
export const IDEMPOTENT = 'nestjs-idempotency:idempotent';

/**
 * Makes a handler, or every handler of a controller, idempotent. On a handler it overrides what the
 * controller says, option by option; `@Idempotent(false)` switches an inherited one off.
 *
 * @example
 * ```ts
 * @Post()
 * @Idempotent({ retention: '48h', inFlight: 'join' })
 * create(@Body() order: CreateOrder) { … }
 * ```
 */
export function Idempotent(options: IdempotencyRouteOptions | false = {}): ClassDecorator & MethodDecorator {
  return SetMetadata(IDEMPOTENT, options);
}

/**
 * Gives a handler its `IdempotencyRunContext`: the key, the attempt, the fencing token, the signal.
 * Undefined where the request runs unprotected (`required: false` and no key).
 */
export const IdempotencyContext = createParamDecorator((_data: unknown, _context: ExecutionContext) => {
  const scope = currentScope();
  if (!scope) return undefined;
  // An upload is claimed after its pipes have run, that is, after this: the context is there when the handler is.
  return scope.context ?? new LateContext(scope);
});

class LateContext implements IdempotencyRunContext {
  constructor(private readonly scope: RunScope) {}

  private get context(): IdempotencyRunContext {
    if (!this.scope.context) throw new Error('The idempotency context is not there before the handler runs.');
    return this.scope.context;
  }

  get key(): string {
    return this.context.key;
  }
  get operation(): string {
    return this.context.operation;
  }
  get attempt(): number {
    return this.context.attempt;
  }
  get fencingToken(): number {
    return this.context.fencingToken;
  }
  get signal(): AbortSignal {
    return this.context.signal;
  }
  downstreamKey(name: string): string {
    return this.context.downstreamKey(name);
  }
  get manager(): RunManager {
    return this.context.manager;
  }
  step<T>(name: string, fn: (step: StepContext) => T | Promise<T>): Promise<T> {
    return this.context.step(name, fn);
  }
}
