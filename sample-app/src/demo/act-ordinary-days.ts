import { TENANTS } from './bill.js';
import { codeOf, send, sendAndHangUp, sendUntilSettled, type Answer } from './client.js';
import { chat, HANDBOOK, newKey, purchase, upload } from './requests.js';
import type { Instance } from './stage.js';
import type { Steps } from './step.js';

/** What happens to every service with clients that retry. Two processes serve them. */
export async function ordinaryDays(steps: Steps, one: Instance, two: Instance): Promise<void> {
  const key = newKey('question');
  const first = await firstRequest(steps, one, two, key);
  await lostConnection(steps, one, two);
  await twoAtOnce(steps, one, two);
  await otherPayload(steps, two, key);
  await otherTenant(steps, two, key, first);
  await badKeys(steps, one);
  await badApiKey(steps, one, key);
  await documentUpload(steps, one, two);
  await creditPurchase(steps, one, two);
}

async function firstRequest(steps: Steps, one: Instance, two: Instance, key: string): Promise<Answer> {
  const call = chat(key, 'What is an idempotency key?');
  let first: Answer;
  await steps.step('The first request runs', async (step) => {
    first = await step.send(one, call);
    step.expectFirst(first);
    return step.expectBill(one, { runs: 1, modelCalls: 1 });
  });
  await steps.step('The same request again, to another process: a replay', async (step) => {
    step.expectReplayOf(first, await step.send(two, call));
    const quoted = await step.send(two, { ...call, key: `"${key}"` }, 'the key in quotes is the same key');
    step.expectReplayOf(first, quoted);
    return step.expectBill(two, {});
  });
  return first!;
}

async function lostConnection(steps: Steps, one: Instance, two: Instance): Promise<void> {
  await steps.step('The connection is lost in the middle; the retry gets the answer of the first run', async (step) => {
    const call = chat(newKey('lost'), 'Are you still there?');
    const { runs, modelCalls } = step.billBefore;
    const lost = sendAndHangUp(one.url, call);
    const began = await step.untilBill(one, (bill) => bill.runs > runs && bill.modelCalls > modelCalls);
    step.expect('the client was gone before there was an answer', lost.hangUp() && began);
    step.say('(the client has hung up; the handler goes on)');
    const { answer } = await step.sendUntilSettled(two, call, 'retry');
    step.expect(
      '200, as a replay of what nobody heard',
      answer.status === 200 && answer.headers.has('idempotent-replayed'),
    );
    return step.expectBill(one, { runs: 1, modelCalls: 1 });
  });
}

async function twoAtOnce(steps: Steps, one: Instance, two: Instance): Promise<void> {
  await steps.step('Two at once: one runs, the other is told to wait, and then gets the same answer', async (step) => {
    const call = chat(newKey('twice'), 'Did you hear me twice?');
    const { runs } = step.billBefore;
    const running = send(one.url, call);
    // Awaited further down; until then a failure has nobody to catch it.
    running.catch(() => undefined);
    await step.untilBill(two, (bill) => bill.runs > runs);
    const conflict = await step.send(two, call, 'while the first one runs');
    step.expectProblem(conflict, 409, 'idempotency_in_progress');
    const retryAfter = Number(conflict.headers.get('retry-after'));
    step.expect('retry-after from 1 to 59', Number.isInteger(retryAfter) && retryAfter >= 1 && retryAfter <= 59);
    step.expect('x-should-retry: true', conflict.headers.get('x-should-retry') === 'true');
    const first = await running;
    step.show(first, call, 'the first one');
    step.expectFirst(first);
    const { answer } = await sendUntilSettled(two.url, call);
    step.show(answer, call, 'the second one, asking again');
    step.expectReplayOf(first, answer);
    return step.expectBill(one, { runs: 1, modelCalls: 1 });
  });
}

async function otherPayload(steps: Steps, instance: Instance, key: string): Promise<void> {
  await steps.step('The same key with another payload is refused', async (step) => {
    const answer = await step.send(instance, chat(key, 'Something else entirely?'));
    step.expectProblem(answer, 422, 'idempotency_key_reused');
    const unharmed = await step.send(instance, chat(key, 'What is an idempotency key?'), 'the first payload again');
    step.expect('the record is unharmed', unharmed.status === 200 && unharmed.headers.has('idempotent-replayed'));
    return step.expectBill(instance, {});
  });
}

async function otherTenant(steps: Steps, instance: Instance, key: string, first: Answer): Promise<void> {
  await steps.step('Another tenant with the same key has a run of its own', async (step) => {
    const answer = await step.send(instance, chat(key, 'What is an idempotency key?', TENANTS.globex), 'tenant globex');
    step.expectFirst(answer);
    step.expect('an answer of its own', answer.body !== first.body);
    return step.expectBill(instance, { runs: 1, modelCalls: 1 });
  });
}

async function badKeys(steps: Steps, instance: Instance): Promise<void> {
  await steps.step('A malformed, an overlong and a missing key are refused', async (step) => {
    for (const key of ['two, keys', '"unbalanced', 'k'.repeat(256)]) {
      step.expectProblem(await step.send(instance, chat(key, 'Hello?')), 400, 'idempotency_key_invalid');
    }
    step.expectProblem(await step.send(instance, chat(undefined, 'Hello?'), 'no key'), 400, 'idempotency_key_missing');
    return step.expectBill(instance, {});
  });
}

async function badApiKey(steps: Steps, instance: Instance, key: string): Promise<void> {
  await steps.step('Who has no valid API key gets no replay either', async (step) => {
    const answer = await step.send(instance, chat(key, 'What is an idempotency key?', 'sk-stolen'));
    step.expect('401, and no word of the answer', answer.status === 401 && !answer.body.includes('chat.completion'));
    return step.expectBill(instance, {});
  });
}

async function documentUpload(steps: Steps, one: Instance, two: Instance): Promise<void> {
  await steps.step('An upload, again with another multipart boundary: a replay', async (step) => {
    const key = newKey('upload');
    const first = await step.send(one, upload(key, HANDBOOK));
    step.expectFirst(first, 201);
    step.expectReplayOf(first, await step.send(two, upload(key, HANDBOOK), 'a new form, a new boundary'));
    const other = await step.send(two, upload(key, `${HANDBOOK}!`), 'one character more');
    step.expectProblem(other, 422, 'idempotency_key_reused');
    return step.expectBill(one, { runs: 1, modelCalls: 4 });
  });
}

async function creditPurchase(steps: Steps, one: Instance, two: Instance): Promise<void> {
  await steps.step('A purchase: a mistake is corrected under the same key, the retry charges nobody', async (step) => {
    const key = newKey('purchase');
    const wrong = await step.send(one, purchase(key, -5), 'not a number to sell');
    step.expect('400 of the validation, which is not recorded', wrong.status === 400 && codeOf(wrong) === undefined);
    const first = await step.send(one, purchase(key, 100));
    step.expectFirst(first, 201);
    step.expectReplayOf(first, await step.send(two, purchase(key, 100), 'retry'));
    const { charges } = step.billBefore;
    const charged = await step.untilBill(two, (bill) => bill.charges > charges);
    step.expect('the charge is made afterwards, from the outbox', charged);
    return step.expectBill(two, { runs: 1, credits: 100, charges: 1 });
  });
}
