import type { Execution } from './engine.js';
import { inProgressError } from './in-progress.js';
import type { Claim, RecordView } from './record.js';
import { outcomeUnknownError, reusedError } from './refusals.js';
import type { RunOutcome } from './settle.js';
import type { IdempotencyStore } from './store.js';

/** A late run's caller gets what the record says, never what the late run made of it. */
export async function answerOfRecord<T>(
  store: IdempotencyStore,
  claim: Claim,
  fingerprint: string,
  own: RunOutcome<T>,
): Promise<Execution<T>> {
  let record: RecordView | undefined;
  try {
    record = await store.find(claim.recordKey);
  } catch (cause) {
    if (own.kind === 'release') return { kind: 'ran', outcome: own }; // contradicts nothing, whatever was recorded
    throw outcomeUnknownError(cause); // not the store's own 503: that one says that nothing ran
  }
  if (record?.state === 'completed' && record.answer) {
    if (record.fingerprint !== fingerprint) throw reusedError();
    return { kind: 'replay', answer: record.answer };
  }
  // In progress under another claim; one's own is no stranger to wait for, but an outcome not yet known.
  if (record?.state === 'in_progress' && record.fencingToken !== claim.fencingToken) {
    throw inProgressError({ leaseRemainingMs: 1_000, runningMs: 0 }, undefined);
  }
  // The first try of a repeated release was written, and another claim has been and gone: no outcome is unknown.
  const isSettled = !record || record.state === 'released';
  if (own.kind === 'release' && (own.undone || isSettled)) return { kind: 'ran', outcome: own };
  throw outcomeUnknownError();
}
