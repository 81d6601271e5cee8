import type { EventLog, StreamRef } from './event-log.js';
import type { Claim, ClaimRef, RecordedAnswer, RecordView } from './record.js';
import type { StepLog } from './step-log.js';
import type { StoreTransactions } from './transactions.js';

/**
 * What a claim asks for. One call of {@link IdempotencyStore.claim} carries all of it, because a
 * decision that needs two calls has a gap in which another process decides too.
 */
export interface ClaimRequest {
  /** Hash of scope, operation and idempotency key: 43 characters of base64url. */
  readonly recordKey: string;
  /** Method and route pattern, or a name; at most 255 characters. Kept in clear for people who look. */
  readonly operation: string;
  /** What the request asked for, as a hash. Empty where the route switched the check off. */
  readonly fingerprint: string;
  /** A random UUID, made by the caller. A repeated claim with the same token is the same claim. */
  readonly claimToken: string;
  /** How long the claim lives without renewal, in milliseconds. */
  readonly leaseMs: number;
  /** How long the record is kept once it is settled, in milliseconds. */
  readonly retentionMs: number;
  /**
   * What happens to the record when its lease ends without an outcome.
   * `true`: it stays, abandoned, until `resolve` or `forget`. `false`: it stays for `retentionMs`.
   */
  readonly keepAbandoned: boolean;
  /**
   * Whether an abandoned record may be claimed again (`afterCrash: 'rerun'` or a recover function).
   * `'unless_kept'` (`transaction: true`): unless it is kept, because the claim that left it had
   * `keepAbandoned`, or because its run was abandoned with `keep`.
   */
  readonly takeOver: boolean | 'unless_kept';
}

/** The five answers to a claim. */
export type ClaimResult =
  | { readonly kind: 'claimed'; readonly claim: Claim }
  | {
      readonly kind: 'completed';
      readonly record: RecordView & { readonly answer: RecordedAnswer };
      /** Milliseconds until the record's retention ends, on the store's clock. */
      readonly remainingMs: number;
    }
  | {
      readonly kind: 'in_progress';
      /** Milliseconds until the running claim's lease ends, on the store's clock. */
      readonly leaseRemainingMs: number;
      /** Milliseconds since the running claim was won, on the store's clock. */
      readonly runningMs: number;
      /** Present once the running claim has appended to the event log: the stream that can be followed. */
      readonly stream?: StreamRef;
    }
  | { readonly kind: 'reused' }
  | { readonly kind: 'abandoned'; readonly record: RecordView };

/** `lost`: the claim's lease is over or another claim has taken the record; nothing was written. */
export type WriteResult = 'written' | 'lost';

/** `cancel_requested`: written, and somebody has asked for the run to be cancelled. */
export type RenewResult = WriteResult | 'cancel_requested';

/** What is known of a run that cannot tell its outcome. */
export interface AbandonOptions {
  /** Whether the handler ran. */
  readonly began: boolean;
  /** Whether the record stays until it is settled, whatever its claim has asked for. */
  readonly keep?: boolean;
}

/** How a person or a recover function settles an abandoned record. */
export type Resolution = { readonly kind: 'completed'; readonly answer: RecordedAnswer } | { readonly kind: 'rerun' };

/**
 * The port that a backend implements. `describeStoreContract` (`nestjs-idempotency/testing`) holds
 * an implementation to every sentence here.
 *
 * The life of one record, all times on the store's own clock (never the application's):
 *
 * ```text
 *            claim          renew …        complete                    retention over
 *  (none) ─────────► in_progress ─────────► completed ─────────────────────► (none)
 *              ▲          │  │                                                  ▲
 *              │          │  └─ release ──► released ── claim ─► in_progress    │
 *              │          │                     └── retention over ─────────────┘
 *              │          └─ lease over, or abandon ──► abandoned ── resolve ─► completed | released
 *              └──────────── claim with takeOver ───────────┘
 * ```
 *
 * Rules that hold for every method:
 * - One statement or script decides and writes. A get that is followed by a set is a race.
 * - A write under a claim succeeds only while the record is `in_progress`, the claim token is the
 *   record's, and the lease is not over. Otherwise it answers `lost` and changes nothing.
 * - A write repeated with the same claim token, because its reply was lost, answers `written` again.
 *   One that sets the lease (`renew`, `append`, `save`) sets it again: its caller counts the lease
 *   from the repetition, and must not believe in one that the store has ended.
 * - A call that cannot be answered within the store's deadline, or fails, rejects with
 *   `IdempotencyStoreError`. It never hangs: no offline queue, no unbounded wait for a connection.
 * - `lost`, `in_progress` and the rest are answers, not errors; nothing else is ever thrown.
 */
export interface IdempotencyStore {
  /** For messages and metrics: `postgres`, `redis`, `memory`. */
  readonly name: string;

  /**
   * Claims the record, or says why not. Decided in this order:
   * 1. no record, or its retention is over → `claimed`: a new record, attempt 1, a new record id
   * 2. this claim token's own live claim (its reply was lost) → `claimed` again, unchanged
   * 3. released, same fingerprint → `claimed`: same record id, attempt + 1
   * 4. released, other fingerprint → `claimed`: as a new record (nothing was decided under the old one)
   * 5. other fingerprint → `reused`
   * 6. completed → `completed`
   * 7. lease not over → `in_progress`
   * 8. abandoned → with `takeOver` `claimed` (same record id, attempt + 1, `tookOver: true`), else `abandoned`;
   *    `'unless_kept'` takes over only what would end by itself
   *
   * A claim of an existing record (3, 4 and 8) replaces its operation, lease, retention and
   * `keepAbandoned` by those of the request.
   *
   * The fencing token of a claim is greater than that of every earlier claim of the same key,
   * also across the end of a retention and a purge.
   */
  claim(request: ClaimRequest): Promise<ClaimResult>;

  /** Sets the lease to end `leaseMs` from now. */
  renew(claim: ClaimRef, leaseMs: number): Promise<RenewResult>;

  /** Records the answer; the record is then kept, unchanged, for `retentionMs` from now. */
  complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult>;

  /**
   * Gives the claim back: the next claim runs.
   * `began: true`: the handler ran; the record stays as `released` for its retention, so that the
   * attempt is counted and its finished steps are known.
   * `began: false`: the handler did not start. The record becomes what it was before this claim
   * (none, released or abandoned; the attempt is not counted). Only the token is compared, not the
   * lease: a claim whose reply was lost must be undone even when the store was away for longer.
   * Repeated, it answers `written` for as long as the store remembers it (then `lost`), and never
   * undoes anything twice.
   */
  release(claim: ClaimRef, options: { readonly began: boolean }): Promise<WriteResult>;

  /**
   * Ends the lease at once and marks the outcome as unknown. `began` as in {@link release}: with
   * `false` the attempt is not counted; but here the lease is compared in both cases: once it is
   * over the record is abandoned as it is, and its attempt stays counted.
   * `keep: true`: the record stays until it is settled, as if its claim had said `keepAbandoned`.
   */
  abandon(claim: ClaimRef, options: AbandonOptions): Promise<WriteResult>;

  /** The record as it stands, or undefined: none, or its retention is over. Never decides anything. */
  find(recordKey: string): Promise<RecordView | undefined>;

  /**
   * Settles an abandoned record. False, and no change, when there is none or it is not abandoned. The
   * old claim's token is no longer the record's: what its run writes late is `lost`, so is an earlier
   * write that it repeats.
   */
  resolve(recordKey: string, resolution: Resolution, retentionMs: number): Promise<boolean>;

  /** Removes the record, whatever its state, unless a live claim holds it. True if one was removed. */
  forget(recordKey: string): Promise<boolean>;

  /**
   * Removes at most `limit` records whose retention is over, never one that is live or kept until it
   * is settled. Returns how many were removed (0 where the backend's records leave by themselves);
   * safe beside anything, from any number of processes.
   */
  purge(limit: number): Promise<number>;

  /**
   * Calls `wake` soon after the record was completed, released, abandoned or forgotten, or items were
   * appended to its event log, by any process. A hint and no more: it may come late, twice, for
   * nothing, or never; a waiter asks again by `claim` from time to time anyway. Returns the end of the
   * subscription. Optional.
   */
  subscribe?(recordKey: string, wake: () => void): () => void;

  /**
   * Marks a live claim so that its next `renew`, `append` or `save` answers `cancel_requested` (each
   * one from then on). False where there is no live claim. A new claim of the record is not marked. Optional.
   */
  requestCancel?(recordKey: string): Promise<boolean>;

  /** Streamed answers that a retry can resume. Optional. */
  readonly events?: EventLog;

  /** Finished steps of operations that run again. Optional. */
  readonly steps?: StepLog;

  /** Transactions in which a handler's writes and its record become true together. Optional. */
  readonly transactions?: StoreTransactions;

  /** Connects and checks what the store relies on; rejects with a message that names the fix. */
  start?(): Promise<void>;

  /** Gives back connections and timers. The store is not used afterwards. */
  stop?(): Promise<void>;
}

/** What a store factory, or a recover function, may ask the application's container for. */
export interface StoreContainer {
  /** The provider of this token from any module of the application; throws when there is none. */
  get<T>(token: unknown): T;
}

/** A store that needs something of the application (a DataSource, say) to come to be. */
export interface IdempotencyStoreFactory {
  createStore(container: StoreContainer): IdempotencyStore | Promise<IdempotencyStore>;
}
