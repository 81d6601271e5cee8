import { TENANTS, usageOf } from './bill.js';
import { isReplay, send, sendAndHangUp } from './client.js';
import { newKey, purchase } from './requests.js';
import type { Instance } from './stage.js';
import type { Steps } from './step.js';
import { holdTable } from './table-hold.js';

interface Means {
  readonly databaseUrl: string;
  /** A process that does not hear what the payment provider answers. */
  readonly startDeaf: () => Promise<Instance>;
  readonly startNext: () => Promise<Instance>;
}

/** What lives in the database happens once or not at all. `doomed` is killed, as is its successor; a third one is given back. */
export async function purchases(steps: Steps, doomed: Instance, means: Means): Promise<Instance> {
  const key = newKey('credits');
  const deaf = await killedBeforeCommit(steps, doomed, key, means);
  return killedAfterCommit(steps, deaf, key, means);
}

async function killedBeforeCommit(
  steps: Steps,
  doomed: Instance,
  key: string,
  { databaseUrl, startDeaf }: Means,
): Promise<Instance> {
  let next: Instance;
  await steps.step('A purchase is killed in its transaction, before the commit: nothing has happened', async (step) => {
    const table = await holdTable(databaseUrl, 'credit_purchases');
    const answer = send(doomed.url, purchase(key, 250)).catch(() => 'no answer' as const);
    const waiting = await step.until(() => table.isWaitedFor());
    await doomed.kill();
    step.say(`SIGKILL for process ${doomed.pid}, which was waiting to write; a new one starts`);
    await table.letGo();
    step.expect('the handler had begun, and no client got an answer', waiting && (await answer) === 'no answer');
    next = await startDeaf();
    return step.expectBill(next, {});
  });
  return next!;
}

async function killedAfterCommit(steps: Steps, deaf: Instance, key: string, { startNext }: Means): Promise<Instance> {
  await steps.step('The retry buys; its client is gone when the answer comes, and so is the process', async (step) => {
    const call = purchase(key, 250);
    const { charges, credits } = step.billBefore;
    // Asked until the claim of the killed process is over; the answer itself is for nobody.
    const done = await step.until(async () => {
      const lost = sendAndHangUp(deaf.url, call);
      const bought = await step.untilBill(deaf, (bill) => bill.credits > credits, 500);
      lost.hangUp();
      return bought;
    });
    step.expect('bought', done);
    const charged = await step.untilBill(deaf, (bill) => bill.charges > charges);
    step.expect('the message is sent, and the provider has charged', charged);
    const bill = await step.expectBill(deaf, { runs: 1, credits: 250, charges: 1 });
    await deaf.kill();
    step.say(`SIGKILL for process ${deaf.pid}, which has not heard so: the message is not marked as sent`);
    return bill;
  });
  let next: Instance;
  await steps.step('Its successor sends the message again, and the key makes that harmless', async (step) => {
    next = await startNext();
    const answer = await step.send(next, purchase(key, 250), 'retry');
    step.expect('201, as a replay of what nobody heard', answer.status === 201 && isReplay(answer));
    const { id } = JSON.parse(answer.body) as { id: string };
    const marked = await step.until(async () => typeof (await chargeOf(next, id)) === 'string');
    step.expect('sent again, marked, and charged once', marked);
    return step.expectBill(next, {});
  });
  return next!;
}

/** The charge with which a purchase is paid, once it is known. */
async function chargeOf({ url }: Instance, purchaseId: string): Promise<string | null | undefined> {
  const { credits } = await usageOf(url, TENANTS.acme);
  return credits.purchases.find(({ id }) => id === purchaseId)?.charge;
}
