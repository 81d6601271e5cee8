import { setTimeout as pause } from 'node:timers/promises';
import { isReplay, send } from './client.js';
import { chat, newKey } from './requests.js';
import type { Instance } from './stage.js';
import type { Steps } from './step.js';

const PATIENCE_MS = 20_000;

type Start = () => Promise<Instance>;

/** A record is kept for its retention, through restarts; after that its key is a new one. */
export async function theEndOfRetention(steps: Steps, before: Instance, startNext: Start): Promise<void> {
  const next = await ordinaryRestart(steps, before, startNext);
  await retentionOver(steps, next);
}

async function ordinaryRestart(steps: Steps, before: Instance, startNext: Start): Promise<Instance> {
  let next: Instance;
  await steps.step('An ordinary restart: what was recorded before is replayed after', async (step) => {
    const call = chat(newKey('restart'), 'Will you be the same tomorrow?');
    const first = await step.send(before, call);
    step.expectFirst(first);
    step.expect('SIGTERM: the process leaves in good order', (await before.stop()) === 0);
    next = await startNext();
    step.expectReplayOf(first, await step.send(next, call, 'to the new process'));
    return step.expectBill(next, { runs: 1, modelCalls: 1 });
  });
  return next!;
}

async function retentionOver(steps: Steps, instance: Instance): Promise<void> {
  await steps.step('After its retention a key is free: the request runs as if for the first time', async (step) => {
    const call = chat(newKey('retention'), 'For how long do you remember?');
    const first = await step.send(instance, call);
    step.expectFirst(first);
    const completedAt = performance.now();
    step.expectReplayOf(first, await step.send(instance, call, 'at once'));
    step.say('(retention of 3 s in this process; asked until it is over)');
    let later = await send(instance.url, call);
    while (isReplay(later) && performance.now() - completedAt < PATIENCE_MS) {
      await pause(100);
      later = await send(instance.url, call);
    }
    step.show(later, call, 'after the retention');
    step.expectFirst(later);
    step.expect(
      'another answer, and not before its time',
      later.body !== first.body && performance.now() - completedAt > 2_500,
    );
    return step.expectBill(instance, { runs: 2, modelCalls: 2 });
  });
}
