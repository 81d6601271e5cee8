import type { ActiveRun } from './active-run.js';
import { answerOfSettlement } from './answer.js';
import { runWithin } from './run-scope.js';
import type { RecoverFunction } from './policy.js';
import type { RecordView } from './record.js';
import type { RunOutcome } from './settle.js';
import type { StoreContainer } from './store.js';

/** Of an engine that is in no application. */
export const NO_PROVIDERS: StoreContainer = {
  get() {
    throw new Error('There is no application whose providers could be given.');
  },
};

type Recovered = { readonly kind: 'rerun' } | RunOutcome<never>;

/**
 * Asks the route's recover function what happened in the run of `inDoubt`. The claim is what makes the
 * question exclusive: while it lives, every other request sees one in progress. Where it is lost (the
 * function took longer than `maxDuration`, say), another may ask, and this one is not waited for.
 *
 * A function that throws, or says something else, leaves the outcome unknown: guessing pays twice.
 */
export async function recover(
  inDoubt: RecordView,
  run: ActiveRun,
  ask: RecoverFunction,
  providers: StoreContainer = NO_PROVIDERS,
): Promise<Recovered> {
  const { signal, attempt } = run.context;
  // Another attempt came between: the record that was seen is not the one in doubt. The next request sees that one.
  if (inDoubt.attempt !== attempt - 1) return { kind: 'unknown', began: false };
  let stopWaiting: () => void = () => undefined;
  try {
    const lost = new Promise<never>((_resolve, reject) => {
      stopWaiting = () => reject(signal.reason as Error);
      if (signal.aborted) stopWaiting();
      signal.addEventListener('abort', stopWaiting, { once: true });
    });
    const said = await Promise.race([
      runWithin({ context: run.context }, async () => ask(inDoubt, run.context, providers)),
      lost,
    ]);
    if (said === 'rerun') return { kind: 'rerun' };
    if (said === 'block') return { kind: 'unknown', began: false };
    if (typeof said === 'object' && said !== null && typeof said.completed === 'object' && said.completed !== null) {
      return { kind: 'record', answer: answerOfSettlement(said.completed), recovered: true };
    }
    throw new TypeError(
      `afterCrash must give { completed: { … } }, 'rerun' or 'block'; it gave ${said === null ? 'null' : typeof said === 'string' ? `'${said as string}'` : `a value of type ${typeof said}`}.`,
    );
  } catch (cause) {
    return { kind: 'unknown', began: false, cause };
  } finally {
    signal.removeEventListener('abort', stopWaiting);
  }
}
