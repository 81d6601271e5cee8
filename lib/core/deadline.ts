import { IdempotencyStoreError } from './errors.js';

/**
 * Gives a store call an end: rejects with `IdempotencyStoreError` when `work` has not settled after
 * `ms`. The work itself is not stopped (it may still take effect: its reply is lost, no more), so its
 * late failure is swallowed rather than left as an unhandled rejection.
 */
export function withDeadline<T>(work: Promise<T>, ms: number, what: string): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new IdempotencyStoreError(`${what} took longer than its deadline of ${ms} ms.`)),
      ms,
    );
    work.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}
