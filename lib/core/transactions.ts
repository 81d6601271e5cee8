import type { ClaimRef, RecordedAnswer } from './record.js';
import type { WriteResult } from './store.js';

/** A database transaction in which a run writes, and its record is completed. */
export interface StoreTransaction {
  /** What the handler writes through (an `EntityManager` of TypeORM). */
  readonly manager: unknown;

  /**
   * Completes the record inside the transaction, fenced as `IdempotencyStore.complete`: it counts
   * when the transaction commits, and from here to there no other attempt can take the record over.
   * `lost` writes nothing; the work must then be rolled back.
   */
  complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult>;
}

/**
 * The optional part of a store behind `transaction: true`: what the handler wrote and the record of
 * its answer become true together, or not at all.
 */
export interface StoreTransactions {
  /**
   * Runs `work` in a transaction of the application's database: commits when it resolves, and
   * resolves then; rolls back when it rejects, and rejects with the same error. A commit whose reply
   * is lost rejects; whether it took effect, the record tells.
   */
  run<T>(work: (transaction: StoreTransaction) => Promise<T>): Promise<T>;

  /**
   * Whether an error that the handler ended with says that the database has undone the whole
   * transaction, for no fault of the handler's (a serialization failure, a deadlock): the same request
   * may succeed later. Optional.
   */
  isAborted?(error: unknown): boolean;
}
