import { hashParts } from './hash.js';
import type { StepContext } from './steps.js';

/** What a handler knows of the run that it is in. */
export interface IdempotencyRunContext {
  /** The idempotency key that the client sent (or the fingerprint, in keyless mode). */
  readonly key: string;
  /** Method and route pattern, or the name given to `run`. */
  readonly operation: string;
  /** 1 for the first run, 2 for the one after a crash or a release, and so on. */
  readonly attempt: number;
  /** Greater than that of every earlier claim of the key: a resource that remembers the greatest it saw can refuse a late writer. */
  readonly fencingToken: number;
  /** Aborted when the claim is lost (`IdempotencyClaimLostError`) or the run is cancelled. */
  readonly signal: AbortSignal;
  /**
   * A key to hand to a provider's own idempotency header: the same in every attempt of this
   * operation, another one for each `name` and each record. At most 48 characters, `[A-Za-z0-9_-]`.
   */
  downstreamKey(name: string): string;
  /**
   * A checkpoint: runs `fn` once, records what it gives (as JSON), and gives that back without running
   * it when the operation runs again under this key, after a crash with `afterCrash: 'rerun'` or
   * after a release. A step that throws is not recorded. Steps may nest and run in parallel; each
   * has a name of its own within the step around it.
   *
   * @throws IdempotencyStepError for a name that was used before, or a result that cannot be recorded
   * @throws IdempotencyClaimLostError where the claim is over; the result is not recorded then
   */
  step<T>(name: string, fn: (step: StepContext) => T | Promise<T>): Promise<T>;
  /**
   * With `transaction: true` the `EntityManager` of the transaction in which the record is completed
   * too: what is written through it happens exactly once. Not to be used after the handler has ended.
   * @throws Error without `transaction: true`, and after the end
   */
  readonly manager: RunManager;
}

/**
 * The type of `context.manager`. The TypeORM entry makes it an `EntityManager` (by declaration merging), so
 * that the main entry needs no TypeORM.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type
export interface RunManager {}

export function downstreamKeyOf(recordId: string, name: string): string {
  return `idem_${hashParts(['downstream', recordId, name])}`;
}
