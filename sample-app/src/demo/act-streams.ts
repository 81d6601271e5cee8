import { isReplay, type Answer, type Call } from './client.js';
import { chat, newKey, resolution, streamed } from './requests.js';
import type { Instance } from './stage.js';
import type { Step, Steps } from './step.js';
import { eventsOf, openStream, tokensOf, type LiveStream } from './stream-client.js';

const LOST_AT_TOKEN = 6;
const INTERRUPTED = 'idempotency.interrupted';

/** Answers that come token by token, and what is lost of them: nothing, unless the producer is lost. `one` is killed on the way. */
export async function streams(steps: Steps, one: Instance, two: Instance, leaseMs: number): Promise<void> {
  await lostAtToken(steps, one, two);
  await resumed(steps, one, two);
  const call = streamed(chat(newKey('stream-killed'), 'Will you finish what you have begun?'));
  await producerKilled(steps, one, two, call, leaseMs);
  await runAgain(steps, two, call);
}

async function lostAtToken(steps: Steps, one: Instance, two: Instance): Promise<void> {
  await steps.step(
    'A stream: the connection is lost at a token; the retry elsewhere gets every token',
    async (step) => {
      const call = streamed(chat(newKey('stream-lost'), 'Where was I?'));
      const seen = await untilLost(step, one, call);
      const retry = await openStream(two.url, call);
      step.expect('the retry follows the generation that is still running', standing(retry.answer) === 'live');
      const ended = await retry.over();
      step.show(retry.answer, call, 'the retry, on the other process');
      step.expect('200, as a replay of one generation', retry.answer.status === 200 && isReplay(retry.answer));
      step.expect('from the first token on, the same', startsWith(retry, seen));
      step.expect('to the end', ended && isWhole(retry.answer));
      const later = await openStream(one.url, call);
      await later.over();
      step.show(later.answer, call, 'once more, after the end');
      step.expectReplayOf(retry.answer, later.answer);
      return step.expectBill(one, { runs: 1, modelCalls: 1 });
    },
  );
}

async function resumed(steps: Steps, one: Instance, two: Instance): Promise<void> {
  await steps.step('With Last-Event-ID the retry gets only what is missing', async (step) => {
    const call = streamed(chat(newKey('stream-resumed'), 'And then?'));
    const seen = await untilLost(step, one, call);
    const lastSeen = seen.events.at(-1)!;
    const rest = await openStream(two.url, call, lastSeen.id);
    const ended = await rest.over();
    step.show(rest.answer, call, `the rest, after token ${tokensOf(seen.events).length}`);
    const whole = await openStream(two.url, call);
    await whole.over();
    step.show(whole.answer, call, 'all of it');
    const ids = [...seen.events, ...rest.events].map(({ id }) => id);
    step.expect(
      'what was seen and the rest are the whole, without gap or double',
      ended && isWhole(whole.answer) && ids.join() === whole.events.map(({ id }) => id).join(),
    );
    return step.expectBill(one, { runs: 1, modelCalls: 1 });
  });
}

async function producerKilled(
  steps: Steps,
  doomed: Instance,
  other: Instance,
  call: Call,
  leaseMs: number,
): Promise<void> {
  await steps.step('The producing process is killed: what was recorded, and then how it ended', async (step) => {
    const first = await openStream(doomed.url, call);
    const began = await first.untilTokens(LOST_AT_TOKEN);
    const follower = await openStream(other.url, call);
    const followed = await follower.untilTokens(LOST_AT_TOKEN);
    await doomed.kill();
    const killedAt = performance.now();
    step.say(`SIGKILL for process ${doomed.pid}, with one client of its own and one that follows on another process`);
    step.expect("the client's connection broke in the middle", began && !(await first.over()));
    const ended = await follower.over();
    const seconds = (performance.now() - killedAt) / 1000;
    step.show(follower.answer, call, `the follower, told after ${seconds.toFixed(1)} s`);
    step.expect('the follower got all that the client had got', followed && startsWith(follower, first));
    step.expect(`then ${INTERRUPTED}, and no [DONE]`, ended && isInterrupted(follower.answer));
    step.expect('within the lease and a second', seconds * 1000 < leaseMs + 1000);
    const retry = await openStream(other.url, call);
    await retry.over();
    step.show(retry.answer, call, 'a retry');
    step.expect(
      'a retry is told the same; nothing runs by itself',
      standing(retry.answer) === 'interrupted' && retry.answer.body === follower.answer.body,
    );
    return step.expectBill(other, { runs: 1, modelCalls: 1 });
  });
}

async function runAgain(steps: Steps, instance: Instance, call: Call): Promise<void> {
  await steps.step('An operator lets it run again: another generation, not glued to the first', async (step) => {
    const resolved = await step.send(instance, resolution(call.key!, 'rerun'), 'rerun');
    step.expect('it may', resolved.status === 200);
    const again = await openStream(instance.url, call);
    const ended = await again.over();
    step.show(again.answer, call, 'retry');
    step.expectFirst(again.answer);
    step.expect('whole', ended && isWhole(again.answer));
    return step.expectBill(instance, { runs: 1, modelCalls: 1 });
  });
}

async function untilLost(step: Step, instance: Instance, call: Call): Promise<LiveStream> {
  const stream = await openStream(instance.url, call);
  const inTime = await stream.untilTokens(LOST_AT_TOKEN);
  stream.hangUp();
  await stream.over();
  const { events, answer } = stream;
  step.show(answer, call, 'the connection is lost');
  step.expect(`it was lost after ${tokensOf(events).length} tokens, before the end`, inTime && !isWhole(answer));
  return stream;
}

function standing({ headers }: Answer): string | null {
  return headers.get('idempotency-stream');
}

/** Whether `stream` begins, message for message and id for id, with what has arrived of `other`. */
function startsWith(stream: LiveStream, other: LiveStream): boolean {
  return other.events.every(({ id, data }, index) => {
    const own = stream.events[index];
    return own?.id === id && own?.data === data;
  });
}

/** One generation with its end. */
function isWhole({ body }: Answer): boolean {
  const events = eventsOf(body);
  const generations = new Set(events.slice(0, -1).map(({ data }) => (JSON.parse(data) as { id: string }).id));
  return events.at(-1)?.data === '[DONE]' && generations.size === 1;
}

function isInterrupted({ body }: Answer): boolean {
  const events = eventsOf(body);
  return events.at(-1)?.event === INTERRUPTED && events.every(({ data }) => data !== '[DONE]');
}
