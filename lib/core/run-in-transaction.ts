import type { ActiveRun } from './active-run.js';
import { pause } from './clock.js';
import type { RunOutcome } from './settle.js';
import type { IdempotencyStore, WriteResult } from './store.js';
import type { StoreTransactions } from './transactions.js';

/** Thrown to roll the transaction back; what it means is told by the outcome. */
class RolledBack extends Error {}

/** How the run ended, and whether that is written: by the transaction, or still to be written. */
export interface TransactionalEnd<T> {
  readonly outcome: RunOutcome<T>;
  /** `unwritten`: rolled back; the outcome is to be written as after any run. */
  readonly written: WriteResult | 'unwritten';
  /** Why the transaction did not come about, where it was not the operation's own doing. */
  readonly failure?: unknown;
}

/**
 * Runs an operation in a transaction that completes its record too. An outcome that is not recorded
 * rolls back what the handler wrote: the next attempt begins from nothing.
 */
export async function runInTransaction<T>(
  store: IdempotencyStore,
  transactions: StoreTransactions,
  run: ActiveRun,
  retentionMs: number,
  operation: () => Promise<RunOutcome<T>>,
): Promise<TransactionalEnd<T>> {
  let outcome: RunOutcome<T> | undefined;
  let completed: WriteResult | undefined;
  try {
    await transactions.run(async (transaction) => {
      run.setManager(transaction.manager);
      outcome = await operation();
      if (outcome.kind !== 'record') throw new RolledBack();
      completed = await transaction.complete(run.claim, outcome.answer, retentionMs);
      if (completed === 'lost') throw new RolledBack();
    });
    return { outcome: outcome!, written: 'written' };
  } catch (error) {
    if (outcome && error instanceof RolledBack)
      return { outcome, written: completed === 'lost' ? 'lost' : 'unwritten' };
    // The transaction could not begin, was aborted by the database (a serialization failure, a
    // deadlock), or its commit was not answered. In the last case it may have become true all the same.
    const happened = completed === 'written' ? await hasCompleted(store, run) : false;
    if (happened === true) return { outcome: outcome!, written: 'written' };
    if (happened === undefined)
      return { outcome: { kind: 'unknown', began: true, cause: error }, written: 'unwritten' };
    return { outcome: { kind: 'release', began: outcome !== undefined, error }, written: 'unwritten', failure: error };
  } finally {
    run.setManager(undefined);
  }
}

/** Whether the commit that was not answered took effect; undefined where the store does not say for as long as the lease can last. */
async function hasCompleted(store: IdempotencyStore, run: ActiveRun): Promise<boolean | undefined> {
  const { claim } = run;
  for (;;) {
    try {
      const record = await store.find(claim.recordKey);
      return record?.state === 'completed' && record.recordId === claim.recordId && record.attempt === claim.attempt;
    } catch {
      if (!run.mayHoldClaim) return undefined;
      await pause(100);
    }
  }
}
