import { TENANTS, usageOf } from './bill.js';
import { isReplay, send, type Answer } from './client.js';
import { chat, HANDBOOK, newKey, purchase, resolution, upload } from './requests.js';
import type { Instance } from './stage.js';
import type { Steps } from './step.js';

type Start = () => Promise<Instance>;

/** The process is killed while it works. What its clients find when there is a new one, which is given back. */
export async function aCrash(steps: Steps, doomed: Instance, startNext: Start): Promise<Instance> {
  const keys = {
    settled: newKey('crashed-a'),
    repeated: newKey('crashed-b'),
    upload: newKey('crashed-upload'),
    purchase: newKey('crashed-purchase'),
  };
  const next = await killInTheMiddle(steps, doomed, startNext, keys);
  await outcomeUnknown(steps, next, keys.settled);
  await settledByOperator(steps, next, keys.settled, keys.repeated);
  await runAgain(steps, next, keys.upload, keys.purchase);
  return next;
}

type Keys = Readonly<Record<'settled' | 'repeated' | 'upload' | 'purchase', string>>;

async function killInTheMiddle(steps: Steps, doomed: Instance, startNext: Start, keys: Keys): Promise<Instance> {
  let next: Instance;
  await steps.step('The process is killed in the middle of four requests', async (step) => {
    const calls = [
      chat(keys.settled, 'Will you remember this?'),
      chat(keys.repeated, 'And this?'),
      upload(keys.upload, HANDBOOK),
      purchase(keys.purchase, 250),
    ];
    const answers = calls.map((call) => send(doomed.url, call).catch(() => 'no answer' as const));
    const { runs, modelCalls, charges } = step.billBefore;
    const busy = await step.untilBill(
      doomed,
      (bill) => bill.runs === runs + 4 && bill.modelCalls === modelCalls + 3 && bill.charges === charges + 1,
    );
    await doomed.kill();
    step.say(`SIGKILL for process ${doomed.pid}; a new one starts`);
    const heard = await Promise.all(answers);
    step.expect(
      'all four were running, and no client got an answer',
      busy && heard.every((one) => one === 'no answer'),
    );
    next = await startNext();
    return step.expectBill(next, { runs: 4, modelCalls: 3, charges: 1 });
  });
  return next!;
}

async function outcomeUnknown(steps: Steps, instance: Instance, key: string): Promise<void> {
  await steps.step(`afterCrash 'block': once the lease is over, the outcome is unknown; nothing runs`, async (step) => {
    const call = chat(key, 'Will you remember this?');
    const { answer } = await step.sendUntilSettled(instance, call, 'retry');
    step.expectProblem(answer, 409, 'idempotency_outcome_unknown');
    step.expect('x-should-retry: false', answer.headers.get('x-should-retry') === 'false');
    step.expectProblem(await step.send(instance, call, 'another retry'), 409, 'idempotency_outcome_unknown');
    return step.expectBill(instance, {});
  });
}

async function settledByOperator(steps: Steps, instance: Instance, settled: string, repeated: string): Promise<void> {
  await steps.step('An operator settles it: this is the answer', async (step) => {
    const body = { object: 'chat.completion', note: "as found in the provider's log" };
    const resolved = await step.send(instance, resolution(settled, { body }), 'completed');
    step.expect('the record is settled', resolved.status === 200);
    const answer = await step.send(instance, chat(settled, 'Will you remember this?'), 'retry');
    step.expect("the operator's answer, as a replay", answer.body === JSON.stringify(body) && isReplay(answer));
    return step.expectBill(instance, {});
  });
  await steps.step('An operator settles another one: it may run again', async (step) => {
    const call = chat(repeated, 'And this?');
    step.expect('it may', (await step.send(instance, resolution(repeated, 'rerun'), 'rerun')).status === 200);
    const answer = await step.send(instance, call, 'retry');
    step.expectFirst(answer);
    step.expect('it was attempt 2', (await latestAttempt(instance, call.path)) === 2);
    step.expectReplayOf(answer, await step.send(instance, call, 'another retry'));
    return step.expectBill(instance, { runs: 1, modelCalls: 1 });
  });
}

async function runAgain(steps: Steps, instance: Instance, uploadKey: string, purchaseKey: string): Promise<void> {
  await steps.step(`afterCrash 'rerun': the upload is done again by the retry`, async (step) => {
    const answer = await step.send(instance, upload(uploadKey, HANDBOOK), 'retry');
    step.expectFirst(answer, 201);
    step.expect('it was attempt 2', (await latestAttempt(instance, '/v1/documents')) === 2);
    step.expectReplayOf(answer, await step.send(instance, upload(uploadKey, HANDBOOK), 'another retry'));
    return step.expectBill(instance, { runs: 1, modelCalls: 3 });
  });
  await steps.step(`'rerun' with a downstream key: the purchase is finished, and charged once`, async (step) => {
    const answer = await step.send(instance, purchase(purchaseKey, 250), 'retry');
    step.expectFirst(answer, 201);
    step.expect('it was attempt 2', (await latestAttempt(instance, '/v1/credits')) === 2);
    step.expect('with the charge that the killed process had made', await isOnlyChargeFor(instance, answer, 250));
    return step.expectBill(instance, { runs: 1, credits: 250 });
  });
}

async function latestAttempt({ url }: Instance, path: string): Promise<number | undefined> {
  const { runs } = await usageOf(url, TENANTS.acme);
  return runs.filter(({ operation }) => operation === `POST ${path}`).at(-1)?.attempt;
}

/** Of all charges that the provider has made for this amount, the answer names the only one. */
async function isOnlyChargeFor({ url }: Instance, answer: Answer, cents: number): Promise<boolean> {
  const { credits } = await usageOf(url, TENANTS.acme);
  const charges = credits.charges.filter(({ amount_cents }) => amount_cents === cents);
  return charges.length === 1 && charges[0]!.id === (JSON.parse(answer.body) as { charge: string }).charge;
}
