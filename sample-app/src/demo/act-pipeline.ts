import { TENANTS, usageOf } from './bill.js';
import { isReplay, send } from './client.js';
import { HANDBOOK, newKey, upload } from './requests.js';
import type { Instance } from './stage.js';
import type { Step, Steps } from './step.js';

/** An upload is four paid calls in a row. Its process is killed between two of them. */
export async function aPipeline(steps: Steps, doomed: Instance, next: Instance): Promise<void> {
  const key = newKey('pipeline');
  await killedBetweenSteps(steps, doomed, next, key);
  await goesOn(steps, next, key);
}

async function killedBetweenSteps(steps: Steps, doomed: Instance, next: Instance, key: string): Promise<void> {
  await steps.step('An upload is killed between two paid calls', async (step) => {
    const answer = send(doomed.url, upload(key, HANDBOOK)).catch(() => 'no answer' as const);
    const resting = await step.until(async () => (await stepsOfLastRun(next)).join() === 'split,embed 1');
    await doomed.kill();
    step.say(`SIGKILL for process ${doomed.pid}: the first of three parts is embedded, and paid`);
    step.expect('that is recorded, and no client got an answer', resting && (await answer) === 'no answer');
    return step.expectBill(next, { runs: 1, modelCalls: 1 });
  });
}

async function goesOn(steps: Steps, next: Instance, key: string): Promise<void> {
  await steps.step(`afterCrash 'rerun' with steps: the retry goes on where the crash was`, async (step) => {
    const { answer } = await step.sendUntilSettled(next, upload(key, HANDBOOK), 'retry');
    step.expectFirst(answer, 201);
    const done = await stepsOfLastRun(next);
    step.expect(`it did only what was missing: ${done.join(', ')}`, done.join() === 'embed 2,embed 3,store,summarise');
    await showCalls(step, next);
    const replay = await step.send(next, upload(key, HANDBOOK), 'another retry');
    step.expect('a replay from now on', isReplay(replay) && replay.body === answer.body);
    return step.expectBill(next, { runs: 1, modelCalls: 3 });
  });
}

async function stepsOfLastRun({ url }: Instance): Promise<readonly string[]> {
  const { runs } = await usageOf(url, TENANTS.acme);
  return runs.filter(({ operation }) => operation === 'POST /v1/documents').at(-1)?.steps ?? [];
}

/** The bill of the upload, call by call. */
async function showCalls(step: Step, { url }: Instance): Promise<void> {
  const calls = (await usageOf(url, TENANTS.acme)).model_calls.slice(-4);
  for (const { attempt, kind, cost_usd } of calls) step.say(`  attempt ${attempt}  ${kind.padEnd(9)}  $${cost_usd}`);
  const kinds = calls.map(({ attempt, kind }) => `${attempt} ${kind}`).join(', ');
  step.expect('each call is paid once', kinds === '1 embedding, 2 embedding, 2 embedding, 2 chat');
}
