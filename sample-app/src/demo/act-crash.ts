import { TENANTS, usageOf } from './bill.js';
import { isReplay, send, type Answer } from './client.js';
import { charge, chat, newKey, resolution } from './requests.js';
import type { Instance } from './stage.js';
import type { Steps } from './step.js';

type Start = () => Promise<Instance>;

/** The process is killed while it works. What its clients find when there is a new one, which is given back. */
export async function aCrash(steps: Steps, doomed: Instance, startNext: Start): Promise<Instance> {
  const keys = {
    settled: newKey('crashed-a'),
    repeated: newKey('crashed-b'),
    charge: newKey('crashed-charge'),
  };
  const next = await killInTheMiddle(steps, doomed, startNext, keys);
  await outcomeUnknown(steps, next, keys.settled);
  await settledByOperator(steps, next, keys.settled, keys.repeated);
  await providerAsked(steps, next, keys.charge);
  return next;
}

type Keys = Readonly<Record<'settled' | 'repeated' | 'charge', string>>;

async function killInTheMiddle(steps: Steps, doomed: Instance, startNext: Start, keys: Keys): Promise<Instance> {
  let next: Instance;
  await steps.step('The process is killed in the middle of three requests', async (step) => {
    const calls = [
      chat(keys.settled, 'Will you remember this?'),
      chat(keys.repeated, 'And this?'),
      charge(keys.charge, 777),
    ];
    const answers = calls.map((call) => send(doomed.url, call).catch(() => 'no answer' as const));
    const { runs, modelCalls, charges } = step.billBefore;
    const busy = await step.untilBill(
      doomed,
      (bill) => bill.runs === runs + 3 && bill.modelCalls === modelCalls + 2 && bill.charges === charges + 1,
    );
    await doomed.kill();
    step.say(`SIGKILL for process ${doomed.pid}; a new one starts`);
    const heard = await Promise.all(answers);
    step.expect(
      'all three were running, and no client got an answer',
      busy && heard.every((one) => one === 'no answer'),
    );
    next = await startNext();
    return step.expectBill(next, { runs: 3, modelCalls: 2, charges: 1 });
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

async function providerAsked(steps: Steps, instance: Instance, key: string): Promise<void> {
  await steps.step(`A function as afterCrash: the payment provider is asked, and knows the charge`, async (step) => {
    const call = charge(key, 777);
    const { answer } = await step.sendUntilSettled(instance, call, 'retry');
    step.expect('201, with the charge that the killed process had made', await isOnlyChargeFor(instance, answer, 777));
    step.expect('as a replay: the handler did not run again', answer.status === 201 && isReplay(answer));
    step.expectReplayOf(answer, await step.send(instance, call, 'another retry'));
    return step.expectBill(instance, {});
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
  return charges.length === 1 && charges[0]!.id === (JSON.parse(answer.body) as { id: string }).id;
}
