import { TENANTS, usageOf } from './bill.js';
import { send } from './client.js';
import { batch, newKey } from './requests.js';
import type { Instance } from './stage.js';
import type { Steps } from './step.js';

const ITEMS = 48;
/** By then so many items have run, or are running. */
const KILLED_AT = 20;
/** As many as the service has under way at a time. */
const AT_A_TIME = 8;

/** A job over many items: each is an operation of its own, so a restart repeats none that was finished. */
export async function aBatch(steps: Steps, doomed: Instance, next: Instance): Promise<void> {
  const call = batch(newKey('batch'), ITEMS);
  await steps.step(
    `A batch of ${ITEMS} items is killed in the middle; the retry runs what is missing`,
    async (step) => {
      const lost = send(doomed.url, call).catch(() => 'no answer' as const);
      const half = await step.until(async () => (await itemsOf(next)).runs >= KILLED_AT);
      await doomed.kill();
      const { runs: began, modelCalls: called } = await itemsOf(next);
      step.say(`SIGKILL for process ${doomed.pid}: ${began} items had begun, up to ${AT_A_TIME} of them had not ended`);
      step.expect('no client got an answer', half && began < ITEMS && (await lost) === 'no answer');
      const { answer } = await step.sendUntilSettled(next, call, 'retry');
      step.expectFirst(answer);
      const { ran, replayed } = JSON.parse(answer.body) as { ran: number; replayed: number };
      step.expect(`${replayed} items came from the record, ${ran} ran`, ran + replayed === ITEMS);
      const twice = began + ran - ITEMS;
      step.expect(`${twice} items ran twice: those that the kill had cut`, twice >= 0 && twice <= AT_A_TIME);
      step.expectReplayOf(answer, await step.send(next, call, 'another retry'));
      return step.expectBill(next, { runs: 2 + began + ran, modelCalls: called + ran });
    },
  );
}

/** Of items that have begun at a kill, the last may not have come as far as the model. */
async function itemsOf({ url }: Instance): Promise<{ runs: number; modelCalls: number }> {
  const { runs, model_calls } = await usageOf(url, TENANTS.acme);
  const count = (lines: readonly { readonly operation: string }[]): number =>
    lines.filter(({ operation }) => operation === 'batch item').length;
  return { runs: count(runs), modelCalls: count(model_calls) };
}
