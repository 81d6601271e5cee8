/** Whether a handler's result comes later: a promise, or something that passes for one (a query builder). */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}
