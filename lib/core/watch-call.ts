/**
 * Calls a handler and tells once when it has ended, with what it threw or was rejected with. What it gives
 * goes on as it is: a promise is watched, not replaced.
 */
export function watchCall(start: () => unknown, ended: (error: unknown) => void): unknown {
  let result: unknown;
  try {
    result = start();
  } catch (error) {
    ended(error);
    throw error;
  }
  if (isThenable(result)) {
    result.then(
      () => ended(undefined),
      (error: unknown) => ended(error),
    );
  } else {
    ended(undefined);
  }
  return result;
}

/** Whether a handler's result comes later: a promise, or something that passes for one (a query builder). */
function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}
