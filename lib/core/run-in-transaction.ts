import type { ActiveRun } from './active-run.js';
import { pause } from './clock.js';
import { IdempotencyClaimLostError } from './errors.js';
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
    if (outcome && error instanceof RolledBack) {
      if (completed === 'lost') {
        const failure = new IdempotencyClaimLostError('The claim was lost before the transaction could be committed.');
        const undone = { kind: 'release', began: true, undone: true, error: failure } as const;
        return { outcome: undone, written: 'lost', failure };
      }
      if (outcome.kind !== 'release') return { outcome, written: 'unwritten' };
      const isAborted = outcome.error !== undefined && transactions.isAborted?.(outcome.error) === true;
      const undone = { ...outcome, undone: true };
      return { outcome: undone, written: 'unwritten', ...(isAborted && { failure: outcome.error }) };
    }
    const released: RunOutcome<T> = { kind: 'release', began: outcome !== undefined, undone: true, error };
    // The transaction could not begin, or was aborted by the database before its commit was sent.
    if (completed !== 'written') return { outcome: released, written: 'unwritten', failure: error };
    // The commit was refused (a deferred constraint, a serialization failure) or not answered; then it
    // may have become true all the same.
    switch (await endOfCommit(store, run)) {
      case 'committed':
        return { outcome: outcome!, written: 'written' };
      case 'rolled back':
        return { outcome: released, written: 'written', failure: error };
      case 'unknown':
        return { outcome: { kind: 'unknown', began: true, cause: error }, written: 'unwritten' };
    }
  } finally {
    run.setManager(undefined);
  }
}

/**
 * What became of a commit that failed. Reading the record alone would not tell: the server may still be
 * about to commit. A release does: it waits for the row that the completion holds, and then either
 * finds the record completed, or makes sure that it never will be.
 */
async function endOfCommit(store: IdempotencyStore, run: ActiveRun): Promise<'committed' | 'rolled back' | 'unknown'> {
  const { claim } = run;
  for (;;) {
    try {
      if ((await store.release(claim, { began: true })) === 'written') return 'rolled back';
      const record = await store.find(claim.recordKey);
      const isOurs = record?.recordId === claim.recordId && record.attempt === claim.attempt;
      // Another attempt has the record: it could not take it over before this transaction was undone.
      if (!isOurs) return 'rolled back';
      return record.state === 'completed' ? 'committed' : 'unknown';
    } catch {
      if (!run.mayHoldClaim) return 'unknown';
      await pause(100);
    }
  }
}
