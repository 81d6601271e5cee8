import type { Settlement } from 'nestjs-idempotency';
import { eventually, type Answer } from '../e2e/support/http-client.js';
import type { Question } from './fixtures/config.js';
import { codeOf, expectInProgress, expectOutcomeUnknown, expectReplayOf, isReplay } from './support/answers.js';
import { BOOT_MS } from './support/applications.js';
import { deferred, Desk } from './support/desk.js';
import { describeServers, type Place } from './support/places.js';
import { Worker } from './support/workers.js';

/** The runs that their process is killed in, each for a test of its own. */
const KEYS = ['asker-dies', 'asker-hangs', 'throws', 'nonsense', 'storm'] as const;

describeServers('a recover function (afterCrash)', (backend) => {
  let desk: Desk;
  let place: Place;
  let workers: Worker[];
  const start = (adapter: 'express' | 'fastify') =>
    Worker.start({ adapter, store: place.store, desk: desk.url, idempotency: {} });

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('recover');
    const victim = await start('express');
    workers = await Promise.all([start('fastify'), start('express'), start('fastify')]);
    for (const key of KEYS) desk.holdAt(key, 'after the charge');
    const clients = KEYS.map((key) => victim.post('asked', key).catch(() => undefined));
    await Promise.all(KEYS.map((key) => desk.untilAt(key, 'after the charge')));
    await victim.kill();
    await Promise.all(clients);
    for (const key of KEYS) desk.letGo(key, 'after the charge');
    await Promise.all(KEYS.map(untilAbandoned));
  }, BOOT_MS);

  afterAll(async () => {
    await Promise.all(workers?.map((worker) => worker.kill()) ?? []);
    await place?.close();
    desk?.close();
  });

  const untilAbandoned = (key: string) =>
    eventually(
      async () => (await workers[1]!.find('POST /asked', key))?.state === 'abandoned',
      `${key} is abandoned`,
      30_000,
    );
  const questionsOf = (key: string): Question[] => desk.questions.filter((question) => question.key === key);
  const charged = { completed: { status: 201, body: { receipt: 'found' } } } as const satisfies Settlement;

  it('whose process is killed while it asks: another one asks once the lease is over', async () => {
    const key = 'asker-dies';
    const [asker, other] = workers;
    const asked = deferred<Settlement>();
    desk.answer(key, ({ pid }) => (pid === asker!.process.pid ? asked.promise : charged));
    const client = asker!.post('asked', key).catch((error: unknown) => error);
    await eventually(() => questionsOf(key).length === 1, 'the first question');
    await asker!.kill();
    asked.resolve(charged);
    expect(await client).toMatchObject({ code: 'ECONNRESET' });
    workers[0] = await start('fastify');

    const answer = await other!.untilDecided('asked', key);
    expect([answer.status, answer.text]).toEqual([201, '{"receipt":"found"}']);
    expect(questionsOf(key).map(({ pid }) => pid)).toEqual([asker!.process.pid, other!.process.pid]);
    expectReplayOf(answer, await workers[2]!.post('asked', key));
    expect(desk.callsOf(key)).toHaveLength(1);
  }, 60_000);

  it('that hangs: its client is answered when maxDuration is over, and another process asks', async () => {
    const key = 'asker-hangs';
    const [asker, other] = workers;
    const never = deferred<Settlement>();
    desk.answer(key, ({ pid }) => (pid === asker!.process.pid ? never.promise : charged));
    const client = asker!.post('asked', key);
    await eventually(() => questionsOf(key).length === 1, 'the first question');
    expectInProgress(await other!.post('asked', key));
    expect(questionsOf(key)).toHaveLength(1);

    const answer = await other!.untilDecided('asked', key);
    expect(answer.text).toBe('{"receipt":"found"}');
    // It is told what is known by then: nothing yet, that another one asks, or what that one was told.
    const told = await client;
    if (isReplay(told)) expectReplayOf(answer, told);
    else expect(['idempotency_outcome_unknown', 'idempotency_in_progress']).toContain(codeOf(told));
    never.resolve('rerun');
    expectReplayOf(answer, await asker!.post('asked', key));
    expect(questionsOf(key)).toHaveLength(2);
    expect(desk.callsOf(key)).toHaveLength(1);
  }, 60_000);

  it.each([
    ['throws', () => Promise.reject(new Error('the provider is down')), /is not JSON|fetch failed|terminated/],
    ['nonsense', () => ({ paid: true }) as unknown as Settlement, /afterCrash must give.*a value of type object/],
  ] as const)(
    'that %s: 409 outcome unknown, the log says why, and the next retry asks again',
    async (key, says, logged) => {
      desk.answer(key, says);
      const [first, second] = workers;
      expectOutcomeUnknown(await first!.post('asked', key));
      expectOutcomeUnknown(await second!.post('asked', key));
      expect(questionsOf(key)).toMatchObject([{ attempt: 1 }, { attempt: 1 }]);
      expect(first!.process.output).toMatch(logged);
      desk.answer(key, () => 'rerun');
      const answer = await first!.post('asked', key);
      expect([answer.status, answer.json()['attempt']]).toEqual([201, 2]);
      expect(desk.callsOf(key).map(({ attempt }) => attempt)).toEqual([1, 2]);
    },
    60_000,
  );

  it('is asked by one of three processes at a time, whatever number of retries there are, and until it knows', async () => {
    const key = 'storm';
    let asking = 0;
    let most = 0;
    desk.answer(key, async () => {
      asking += 1;
      most = Math.max(most, asking);
      await new Promise((resolve) => setTimeout(resolve, 50));
      asking -= 1;
      return questionsOf(key).length < 4 ? 'block' : charged;
    });
    const answers: Answer[] = [];
    for (let storm = 0; questionsOf(key).length < 4 && storm < 20; storm += 1) {
      const sent = Array.from({ length: 20 }, (_, index) => workers[index % 3]!.post('asked', key));
      answers.push(...(await Promise.all(sent)));
    }
    expect(most).toBe(1);
    expect(questionsOf(key).every(({ attempt }) => attempt === 1)).toBe(true);
    for (const answer of answers) {
      if (answer.status === 201) expect(answer.text).toBe('{"receipt":"found"}');
      else expect(['idempotency_outcome_unknown', 'idempotency_in_progress']).toContain(codeOf(answer));
    }
    expect((await workers[0]!.post('asked', key)).text).toBe('{"receipt":"found"}');
    expect(questionsOf(key)).toHaveLength(4);
    expect(desk.callsOf(key)).toHaveLength(1);
  }, 60_000);
});
