import type { ClaimRef } from './record.js';
import type { RenewResult } from './store.js';

/**
 * The finished steps of an operation: the optional part of a store behind `context.step()`. They live
 * and go with the record, and are kept over attempts (a release, a crash) under the same record id.
 */
export interface StepLog {
  /**
   * Records the result of a finished step and sets the lease to end `leaseMs` from now: one round
   * trip, fenced like every write under a claim. The first result of a name stays: a repetition
   * answers `written` and changes nothing but the lease.
   */
  save(claim: ClaimRef, name: string, result: Uint8Array, leaseMs: number): Promise<RenewResult>;

  /** All finished steps of the claim's record by name; empty for a claim that is lost. */
  load(claim: ClaimRef): Promise<ReadonlyMap<string, Uint8Array>>;
}
