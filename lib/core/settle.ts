import type { ActiveRun } from './active-run.js';
import { pause } from './clock.js';
import type { RunPolicy } from './policy.js';
import type { RecordedAnswer } from './record.js';
import type { ClaimRequest, IdempotencyStore, WriteResult } from './store.js';

/**
 * What a run says of itself. `began`: whether the operation itself was started. `value`: what the
 * caller of the engine gets back besides.
 */
export type RunOutcome<T> =
  | { readonly kind: 'record'; readonly answer: RecordedAnswer; readonly value?: T; readonly recovered?: boolean }
  | {
      readonly kind: 'release';
      readonly began: boolean;
      readonly value?: T;
      readonly error?: unknown;
      /** Nothing of the run remains, whatever became of its claim: its transaction was rolled back. */
      readonly undone?: boolean;
    }
  | {
      readonly kind: 'unknown';
      readonly began: boolean;
      readonly cause?: unknown;
      /** The handler has said so itself (`IndeterminateError`): what it did outside of its transaction is in doubt too. */
      readonly declared?: boolean;
    };

type SettlePolicy = Pick<RunPolicy, 'retentionMs' | 'afterCrash'>;

const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 1_000;

/**
 * Writes what became of the run. A write that fails is tried again while the lease (which is being
 * renewed all the while) may hold: the caller must not get an answer that a retry could contradict.
 *
 * `lost`: the claim is over; nothing was written, and the record says what the answer is.
 */
export async function settleRun(
  store: IdempotencyStore,
  run: ActiveRun,
  outcome: RunOutcome<unknown>,
  policy: SettlePolicy,
): Promise<WriteResult> {
  let wait = FIRST_PAUSE_MS;
  for (;;) {
    try {
      return await write(store, run, outcome, policy);
    } catch {
      // Whether it was written is not known either: the same token makes the repetition safe.
    }
    if (outcome.kind === 'release') {
      // An error answer contradicts nothing; it goes out, and the release follows when the store is back.
      undoLater(store, run, outcome.began);
      return 'written';
    }
    // The store's clock decides, and it may have begun the lease later than this process counts it from:
    // one lease more of patience, until the store itself says what became of the claim.
    if (run.leaseEndedMs > run.leaseMs) return 'lost';
    await pause(wait);
    wait = Math.min(wait * 2, LONGEST_PAUSE_MS);
  }
}

function write(
  store: IdempotencyStore,
  { claim }: ActiveRun,
  outcome: RunOutcome<unknown>,
  { retentionMs, afterCrash }: SettlePolicy,
): Promise<WriteResult> {
  switch (outcome.kind) {
    case 'record':
      return store.complete(claim, outcome.answer, retentionMs);
    case 'release':
      return store.release(claim, { began: outcome.began });
    case 'unknown':
      // Under 'rerun' the next retry runs whatever was unknown, and without one the record ends by itself.
      return store.abandon(claim, {
        began: outcome.began,
        keep: outcome.declared === true && afterCrash !== 'rerun',
      });
  }
}

/** Releases in the background for as long as the lease can last; after that the record is abandoned anyway. */
function undoLater(store: IdempotencyStore, run: ActiveRun, began: boolean): void {
  void (async () => {
    let wait = FIRST_PAUSE_MS;
    while (run.mayHoldClaim) {
      await pause(wait, { ref: false });
      try {
        await store.release(run.claim, { began });
        return;
      } catch {
        wait = Math.min(wait * 2, LONGEST_PAUSE_MS);
      }
    }
  })();
}

/**
 * Gives back a claim whose reply never came, in the background. Asked for several times even where
 * the store says that there is no such claim: the statement that makes it may still be on its way
 * (a frozen server works off its queue in any order when it thaws).
 */
export function undoClaim(store: IdempotencyStore, request: ClaimRequest): void {
  void (async () => {
    for (const wait of [100, 500, 2_000, request.leaseMs, request.leaseMs, 10 * request.leaseMs]) {
      await pause(Math.min(wait, 60_000), { ref: false });
      try {
        if ((await store.release(request, { began: false })) === 'written') return;
      } catch {
        // Still away; the next round asks again.
      }
    }
  })();
}
