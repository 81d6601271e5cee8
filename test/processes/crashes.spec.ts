import type { Settlement } from 'nestjs-idempotency';
import { eventually, type Answer } from '../e2e/support/http-client.js';
import type { ReportedRun } from './fixtures/config.js';
import { expectInProgress, expectOutcomeUnknown, expectReplayOf, codeOf, isReplay } from './support/answers.js';
import { type Application, Applications, BOOT_MS, jobOf } from './support/applications.js';
import { deferred, Desk } from './support/desk.js';
import { describeServers, type Place } from './support/places.js';

/** Long enough for a lease of 1.5 s to end and a busy machine to notice. */
const PATIENCE_MS = 15_000;

/** Asks until the lease of whoever runs is over; what comes before may only be a 409 in progress. */
async function askUntilLeaseIsOver(app: Application, route: string, key: string): Promise<Answer> {
  for (const until = Date.now() + PATIENCE_MS; ;) {
    const answer = await app.job(route, { key });
    if (codeOf(answer) !== 'idempotency_in_progress') return answer;
    expectInProgress(answer);
    if (Date.now() > until) throw new Error(`${key} is still in progress after ${PATIENCE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

describeServers('a process that is killed or frozen in the middle of its handlers', (backend) => {
  const jobs = [
    ['block', 'timeline'],
    ['block', 'settled-as-completed'],
    ['block', 'settled-as-rerun'],
    ['rerun', 'rerun'],
    ['ask', 'ask-completed'],
    ['ask', 'ask-rerun'],
    ['ask', 'ask-block'],
  ] as const;
  const firstRuns = new Map<string, ReportedRun>();
  const clients: Promise<unknown>[] = [];
  const whileItRan: Answer[] = [];
  const afterTheKill: { answer: Answer; at: number; leaseUntil: number }[] = [];
  let desk: Desk;
  let place: Place;
  let apps: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('crashes');
    apps = await Applications.start(backend.processes, desk, { store: place.store });
    const victim = apps.at(0);
    for (const [route, key] of jobs) {
      desk.hold(key);
      clients.push(victim.job(route, { key }).catch((error: unknown) => error));
    }
    for (const [, key] of jobs) firstRuns.set(key, (await desk.untilRuns(key, 1))[0]!);
    const [, survivor, another] = apps.all;
    whileItRan.push(...(await Promise.all(apps.all.map((app) => app.job('block', { key: 'timeline' })))));

    victim.process.kill();
    await victim.process.exited;
    for (const until = Date.now() + PATIENCE_MS; Date.now() < until;) {
      const answer = await survivor!.job('block', { key: 'timeline' });
      const at = Date.now();
      const record = await another!.find('block', 'timeline');
      afterTheKill.push({ answer, at, leaseUntil: new Date(record!.leaseUntil).getTime() });
      if (codeOf(answer) !== 'idempotency_in_progress') break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    for (const [, key] of jobs) desk.tell(key, {});
    await apps.replace(victim);
  }, BOOT_MS);

  afterAll(async () => {
    await apps?.close();
    await place?.close();
    desk?.close();
  });

  it('killed: gives its clients no answer', async () => {
    for (const client of clients) expect(await client).toMatchObject({ code: 'ECONNRESET' });
  });

  it('block: 409 in progress for as long as the lease lasts, then 409 outcome unknown', () => {
    expect(whileItRan).toHaveLength(3);
    for (const answer of whileItRan) expectInProgress(answer);
    const last = afterTheKill.pop()!;
    expectOutcomeUnknown(last.answer);
    expect(last.at).toBeGreaterThanOrEqual(last.leaseUntil);
    for (const { answer } of afterTheKill) expectInProgress(answer);
    expect(afterTheKill.length).toBeGreaterThan(0);
  });

  it('block: stays so on every process, and the handler does not run again', async () => {
    for (const answer of await apps.jobs(12, 'block', { key: 'timeline' })) expectOutcomeUnknown(answer);
    expect(await apps.at(1).find('block', 'timeline')).toMatchObject({ state: 'abandoned', attempt: 1 });
    expect(desk.runsOf('timeline')).toHaveLength(1);
  });

  it('block: resolve in another process settles it as completed, once', async () => {
    const key = 'settled-as-completed';
    expectOutcomeUnknown(await askUntilLeaseIsOver(apps.at(1), 'block', key));
    const completed: Settlement = { completed: { status: 201, body: { settled: 'by hand' } } };
    expect(await apps.at(2).resolve('block', key, completed)).toBe(true);
    expect(await apps.at(1).resolve('block', key, 'rerun')).toBe(false);
    for (const answer of await apps.jobs(6, 'block', { key })) {
      expect(answer.status).toBe(201);
      expect(answer.text).toBe('{"settled":"by hand"}');
      expect(isReplay(answer)).toBe(true);
    }
    expect(desk.runsOf(key)).toHaveLength(1);
  });

  it('block: resolve in another process lets it run again', async () => {
    const key = 'settled-as-rerun';
    expectOutcomeUnknown(await askUntilLeaseIsOver(apps.at(1), 'block', key));
    expect(await apps.at(2).resolve('block', key, 'rerun')).toBe(true);
    const second = await apps.at(0).job('block', { key });
    expectSecondAttempt(second, firstRuns.get(key)!);
    expectReplayOf(second, await apps.at(1).job('block', { key }));
    expect(desk.runsOf(key)).toHaveLength(2);
  });

  it('rerun: runs once more, as attempt 2 with a greater fencing token', async () => {
    const key = 'rerun';
    const second = await askUntilLeaseIsOver(apps.at(1), 'rerun', key);
    expectSecondAttempt(second, firstRuns.get(key)!);
    for (const answer of await apps.jobs(6, 'rerun', { key })) expectReplayOf(second, answer);
    expect(desk.runsOf(key)).toHaveLength(2);
  });

  it('a function that knows that it completed: asked once by 20 retries over 3 processes, its answer is replayed', async () => {
    const key = 'ask-completed';
    const last = await retriesWhileAsked(key, { completed: { status: 201, body: { settled: 'by the provider' } } });
    expect(last.text).toBe('{"settled":"by the provider"}');
    expect(last.status).toBe(201);
    for (const answer of await apps.jobs(6, 'ask', { key })) expectReplayOf(last, answer);
    expect(questionsOf(key)).toHaveLength(1);
    expect(desk.runsOf(key)).toHaveLength(1);
  });

  it('a function that knows that nothing happened: asked once, then it runs as attempt 2', async () => {
    const key = 'ask-rerun';
    const last = await retriesWhileAsked(key, 'rerun');
    expectSecondAttempt(last, firstRuns.get(key)!);
    for (const answer of await apps.jobs(6, 'ask', { key })) expectReplayOf(last, answer);
    expect(questionsOf(key)).toHaveLength(1);
    expect(desk.runsOf(key)).toHaveLength(2);
  });

  it('a function that does not know: outcome unknown, and the next retry asks again', async () => {
    const key = 'ask-block';
    expectOutcomeUnknown(await retriesWhileAsked(key, 'block'));
    expect(questionsOf(key)).toHaveLength(1);
    expect(await apps.at(1).find('ask', key)).toMatchObject({ state: 'abandoned', attempt: 1 });
    desk.answer(key, () => 'block');
    expectOutcomeUnknown(await apps.at(0).job('ask', { key }));
    expect(questionsOf(key)).toMatchObject([{ attempt: 1 }, { attempt: 1 }]);
    expect(desk.runsOf(key)).toHaveLength(1);
  });

  it('frozen past its lease: its late write is refused, its signal tells it, and its client gets what the record says', async () => {
    const sleeper = apps.at(0);
    const [, awake, another] = apps.all;
    const wake = deferred<void>();
    const secondAttempt = deferred<void>();
    // The late ones end as soon as they may, or only once their signal has told them.
    const late = (instruction: object) => wake.promise.then(() => instruction);
    desk.tell('late', () => late({ untilAborted: true }));
    desk.tell('late-at-once', () => late({}));
    desk.tell('late-rerun', ({ attempt }) => (attempt === 1 ? late({ untilAborted: true }) : {}));
    desk.tell('late-rerun-goes-on', ({ attempt }) =>
      attempt === 1 ? late({ untilAborted: true }) : secondAttempt.promise.then(() => ({})),
    );
    const sent = {
      blocked: sleeper.job('block', { key: 'late' }),
      blockedAtOnce: sleeper.job('block', { key: 'late-at-once' }),
      rerun: sleeper.job('rerun', { key: 'late-rerun' }),
      rerunGoesOn: sleeper.job('rerun', { key: 'late-rerun-goes-on' }),
    };
    for (const key of ['late', 'late-at-once', 'late-rerun', 'late-rerun-goes-on']) await desk.untilRuns(key, 1);
    sleeper.process.kill('SIGSTOP');

    expectOutcomeUnknown(await askUntilLeaseIsOver(awake!, 'block', 'late'));
    expectOutcomeUnknown(await askUntilLeaseIsOver(awake!, 'block', 'late-at-once'));
    const second = await askUntilLeaseIsOver(another!, 'rerun', 'late-rerun');
    expectSecondAttempt(second, desk.runsOf('late-rerun')[0]!);
    const running = askUntilLeaseIsOver(another!, 'rerun', 'late-rerun-goes-on');
    await desk.untilRuns('late-rerun-goes-on', 2);

    sleeper.process.kill('SIGCONT');
    wake.resolve();
    expectOutcomeUnknown(await sent.blocked);
    expectOutcomeUnknown(await sent.blockedAtOnce);
    expectReplayOf(second, await sent.rerun);
    expectInProgress(await sent.rerunGoesOn);

    secondAttempt.resolve();
    expectSecondAttempt(await running, desk.runsOf('late-rerun-goes-on')[0]!);
    expectReplayOf(await running, await sleeper.job('rerun', { key: 'late-rerun-goes-on' }));
    for (const key of ['late', 'late-at-once']) {
      expect(await awake!.find('block', key)).toMatchObject({ state: 'abandoned', attempt: 1 });
      for (const answer of await apps.jobs(3, 'block', { key })) expectOutcomeUnknown(answer);
      expect(desk.runsOf(key)).toHaveLength(1);
    }
    for (const answer of await apps.jobs(3, 'rerun', { key: 'late-rerun' })) expectReplayOf(second, answer);
    expect(desk.runsOf('late-rerun')).toHaveLength(2);
    for (const key of ['late', 'late-rerun', 'late-rerun-goes-on']) {
      expect(desk.aborts.filter((abort) => abort.key === key)).toEqual([
        { key, attempt: 1, pid: sleeper.process.pid, reason: 'IdempotencyClaimLostError' },
      ]);
    }
  }, 60_000);

  /** 20 retries at once; all but the one that asks are answered while it waits. Returns what the one gets. */
  async function retriesWhileAsked(key: string, said: Settlement | 'block'): Promise<Answer> {
    const question = deferred<Settlement | 'block'>();
    desk.answer(key, () => question.promise);
    // Not before the lease is over: a request that comes earlier would be answered without asking.
    await eventually(async () => (await apps.at(1).find('ask', key))?.state === 'abandoned', `${key} is abandoned`);
    const answered: Answer[] = [];
    const retries = Array.from({ length: 20 }, async (_, index) =>
      answered.push(await apps.at(index).job('ask', { key })),
    );
    await eventually(() => answered.length === 19, `19 of 20 are answered`, PATIENCE_MS);
    for (const answer of answered) expectInProgress(answer);
    await eventually(() => questionsOf(key).length > 0, 'the function asks', PATIENCE_MS);
    expect(questionsOf(key)).toMatchObject([{ state: 'abandoned', attempt: 1 }]);
    // The claim of the one who asks is renewed, however long the provider takes to say.
    const lease = await leaseOf(key);
    await eventually(async () => (await leaseOf(key)) > lease, 'the lease is renewed', PATIENCE_MS);
    question.resolve(said);
    await Promise.all(retries);
    return answered.at(-1)!;
  }

  async function leaseOf(key: string): Promise<number> {
    return new Date((await apps.at(1).find('ask', key))!.leaseUntil).getTime();
  }

  function questionsOf(key: string): unknown[] {
    return desk.questions.filter((question) => question.key === key);
  }
});

/** A first answer, of a run that follows the one that was lost. */
function expectSecondAttempt(answer: Answer, first: ReportedRun): void {
  expect(first.attempt).toBe(1);
  expect(isReplay(answer)).toBe(false);
  const second = jobOf(answer);
  expect(second).toMatchObject({ attempt: 2, key: first.key, downstreamKey: first.downstreamKey });
  expect(second.fencingToken).toBeGreaterThan(first.fencingToken);
}
