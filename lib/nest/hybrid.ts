import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { type Observable, throwError } from 'rxjs';
import { IdempotencyConfigError } from '../core/errors.js';

/** How an application takes a message that its own interceptor has not seen. */
export type TakeMessage = (context: ExecutionContext, next: CallHandler) => Observable<unknown>;

interface Registry {
  /** The applications that are up, by the handlers that they protect. */
  readonly owners: WeakMap<object, Set<TakeMessage>>;
  /** Calls that an application's interceptor has taken. */
  readonly taken: WeakSet<ExecutionContext>;
}

// One for the process: the ESM and the CommonJS build of this package may both be loaded.
const REGISTRY = Symbol.for('nestjs-idempotency:message-handlers');
const global = globalThis as { [REGISTRY]?: Registry };
const registry = (global[REGISTRY] ??= { owners: new WeakMap(), taken: new WeakSet() });

const INTERCEPTORS = '__interceptors__'; // Nest's own metadata key
const FITTED = Symbol.for('nestjs-idempotency:fitted');

/**
 * Nest calls an application's global interceptors for the messages of a hybrid application only where it
 * was connected with `inheritAppConfig: true`. This one stands on the handler itself and takes what they
 * have not seen, so that no handler is unprotected because of how its transport was connected.
 */
const onHandler: NestInterceptor = {
  intercept(context, next) {
    if (context.getType() !== 'rpc' || registry.taken.has(context)) return next.handle();
    const owners = [...(registry.owners.get(context.getHandler()) ?? [])];
    if (owners.length === 1) return owners[0]!(context, next);
    return throwError(
      () =>
        new IdempotencyConfigError(
          `${context.getClass().name} is part of ${owners.length} applications of this process, and which of them this message is for cannot be told. Connect with connectMicroservice(options, { inheritAppConfig: true }).`,
        ),
    );
  },
};

export function guardHandler(handler: object, take: TakeMessage): void {
  const owners = registry.owners.get(handler) ?? new Set();
  owners.add(take);
  registry.owners.set(handler, owners);
  if (Reflect.hasMetadata(FITTED, handler)) return;
  const others = (Reflect.getMetadata(INTERCEPTORS, handler) ?? []) as readonly unknown[];
  Reflect.defineMetadata(INTERCEPTORS, [onHandler, ...others], handler);
  Reflect.defineMetadata(FITTED, true, handler);
}

/** The application is down: its handlers are another one's now, if they are anybody's. */
export function releaseHandler(handler: object, take: TakeMessage): void {
  registry.owners.get(handler)?.delete(take);
}

export function markTaken(context: ExecutionContext): void {
  registry.taken.add(context);
}
