import { AsyncLocalStorage } from 'node:async_hooks';
import type { IdempotencyRunContext } from './context.js';

/** What travels along a call chain: the run, and what the transport wants to know when the handler starts. */
export interface RunScope {
  /** Absent until the claim is won: a multipart upload is claimed only when its parts are known. */
  context?: IdempotencyRunContext;
  /** Called in place of the handler's own code; calls `start` when it may run. */
  readonly aroundHandler?: (handler: unknown, start: () => unknown) => unknown;
  /** The step of the run that the caller is in; a step within it is named after both. */
  readonly step?: { readonly owner: object; readonly path: string };
}

interface Shared {
  readonly storage: AsyncLocalStorage<RunScope>;
  /** How many calls are under way that may ask for their scope. */
  inside: number;
}

// One storage for the process: where an application loads the ESM and the CommonJS build side by
// side, `current()` of either finds the run that the other began.
const SHARED = Symbol.for('nestjs-idempotency:run');
const registry = globalThis as { [SHARED]?: Shared };
const shared = (registry[SHARED] ??= { storage: new AsyncLocalStorage<RunScope>(), inside: 0 });

/**
 * Before Node 24 a storage that is on has a hook called for every promise and timer of the process, also of
 * requests that have nothing to do with it (measured: twice the CPU time of a small Fastify handler).
 */
const COSTS_WHILE_ON = Number(process.versions.node.split('.', 1)[0]) < 24;

/**
 * Says that calls are under way which may ask for their scope, until the function that it gives is called.
 * Between the last end and the next begin the storage is off; what still runs then finds no scope.
 */
export function stayInside(): () => void {
  shared.inside += 1;
  let isInside = true;
  return () => {
    if (!isInside) return;
    isInside = false;
    shared.inside -= 1;
    if (shared.inside === 0 && COSTS_WHILE_ON) shared.storage.disable();
  };
}

/** The run that the caller is in, however deep in its call chain, or undefined. */
export function currentRun(): IdempotencyRunContext | undefined {
  return shared.storage.getStore()?.context;
}

export function currentScope(): RunScope | undefined {
  return shared.storage.getStore();
}

/** Calls `fn` within `scope`. Whoever calls it stays inside (`stayInside`) for as long as `fn` works. */
export function withScope<T>(scope: RunScope, fn: () => T): T {
  return shared.storage.run(scope, fn);
}

/** Calls `fn` within `scope`, to the end of what it gives. */
export async function runWithin<T>(scope: RunScope, fn: () => T | Promise<T>): Promise<T> {
  const leave = stayInside();
  try {
    return await shared.storage.run(scope, fn);
  } finally {
    leave();
  }
}
