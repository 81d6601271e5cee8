import type { Execution } from '../../lib/core/engine.js';
import { IdempotencyError } from '../../lib/core/errors.js';
import type { ClaimResult } from '../../lib/core/store.js';
import type { Answer, StoreCallEvent } from '../chaos/checker/history.js';

/** The answer of a run, and by whom it was given. */
export interface Ran {
  readonly fence: number;
  readonly body: string;
}

/** What a client is told, in the words of the checker. */
export function answerOf(execution: Execution<void>, ran: Ran | undefined): Answer {
  if (execution.kind === 'ran') {
    return execution.outcome.kind === 'record' ? answered(ran!.body, false) : { kind: 'failed' };
  }
  if (execution.kind === 'follow') return { kind: 'odd', what: 'a stream' };
  const { answer } = execution;
  return answer.kept === true ? answered(Buffer.from(answer.body).toString(), true) : { kind: 'not_kept' };
}

function answered(body: string, replayed: boolean): Answer {
  const { run, mark } = JSON.parse(body) as { run: number; mark: string };
  return { kind: 'answered', status: 201, run, digest: body, replayed, mark };
}

export function refusalOf(error: unknown): Answer {
  if (!(error instanceof IdempotencyError)) return { kind: 'odd', what: String(error) };
  switch (error.code) {
    case 'idempotency_key_reused':
      return { kind: 'reused' };
    case 'idempotency_in_progress':
      return { kind: 'in_progress' };
    case 'idempotency_outcome_unknown':
      return { kind: 'unknown' };
    case 'idempotency_store_unavailable':
      return { kind: 'unavailable' };
    default:
      return { kind: 'odd', what: error.code };
  }
}

/** What the history keeps of a claim's answer. */
export function claimFacts(result: ClaimResult): Partial<StoreCallEvent> {
  if (result.kind !== 'claimed') return { got: result.kind };
  const { fencingToken: fence, attempt, tookOver } = result.claim;
  return { got: 'claimed', fence, attempt, tookOver };
}
