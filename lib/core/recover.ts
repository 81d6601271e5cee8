import type { ActiveRun } from './active-run.js';
import { answerOfSettlement } from './answer.js';
import { withRun } from './context.js';
import type { RecoverFunction } from './policy.js';
import type { RunOutcome } from './settle.js';
import type { IdempotencyStore } from './store.js';

type Recovered = { readonly kind: 'rerun' } | RunOutcome<never>;

/**
 * Asks the route's recover function what happened in the run before this claim. The claim is what
 * makes the question exclusive: while it lives, every other request sees one in progress.
 * A function that throws, or says something else, leaves the outcome unknown: guessing pays twice.
 */
export async function recover(store: IdempotencyStore, run: ActiveRun, ask: RecoverFunction): Promise<Recovered> {
  try {
    const record = await store.find(run.claim.recordKey);
    if (!record) return { kind: 'unknown', began: false };
    const before = { ...record, state: 'abandoned' as const, attempt: run.claim.attempt - 1 };
    const said = await withRun(run.context, async () => ask(before, run.context));
    if (said === 'rerun') return { kind: 'rerun' };
    if (typeof said === 'object' && said !== null && 'completed' in said) {
      return { kind: 'record', answer: answerOfSettlement(said.completed), recovered: true };
    }
    return { kind: 'unknown', began: false };
  } catch (cause) {
    return { kind: 'unknown', began: false, cause };
  }
}
