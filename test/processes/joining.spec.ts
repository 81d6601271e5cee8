import { eventually, sendAndLeave, type Answer } from '../e2e/support/http-client.js';
import { expectInProgress, expectOutcomeUnknown, expectReplayOf, isReplay } from './support/answers.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { Applications, BOOT_MS, headersOf, jobOf } from './support/applications.js';
import { deferred, Desk } from './support/desk.js';
import { describeServers, describeStores, type Backend, type Place } from './support/places.js';

const DUPLICATES = 200;
/** Between the end of the handler and the answer, for half of the duplicates. */
const WAKE_UP_MS = 50;
/** A waiter that no hint reaches looks by itself, at the latest after so long. */
const POLL_MS = 1_000;
const PATIENCE_MS = 20_000;

interface Joined {
  answers: Answer[];
  /** Of every answer: milliseconds from the handler's end until it left its application. Sorted. */
  waits: number[];
  connections: { open: number; busy: number }[];
}

/** One call that lasts `ms` and its duplicates, over all processes; `meanwhile` is called once they wait. */
async function joinOne(
  { apps, desk, place }: { apps: Applications; desk: Desk; place: Place },
  key: string,
  ms: number,
  meanwhile: () => unknown = () => undefined,
): Promise<Joined> {
  desk.tell(key, { lasts: ms });
  let answered = 0;
  const sent = Array.from({ length: DUPLICATES + 1 }, async (_, index) => {
    const answer = await apps.at(index).job('join', { key });
    answered += 1;
    return answer;
  });
  await desk.untilRuns(key, 1);
  await eventually(async () => (await waiting(apps)) === DUPLICATES, 'all duplicates wait', PATIENCE_MS);
  await meanwhile();
  const connections: Joined['connections'] = [];
  while (answered === 0) {
    connections.push(await place.connections());
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  const answers = await Promise.all(sent);

  expect(desk.runsOf(key)).toHaveLength(1);
  const originals = answers.filter((answer) => !isReplay(answer));
  expect(originals).toHaveLength(1);
  const { endedAt } = jobOf(originals[0]!);
  for (const answer of answers) if (answer !== originals[0]) expectReplayOf(originals[0]!, answer);
  const answeredAt = (await Promise.all(apps.all.map((app) => app.answeredAt(key)))).flat();
  expect(answeredAt).toHaveLength(DUPLICATES + 1);
  return { answers, waits: answeredAt.map((at) => at - endedAt).sort((a, b) => a - b), connections };
}

/**
 * As many answers that wait for nothing: replays out of memory. A machine that is too busy to give
 * half of them in time gives those that had to be woken later by as much.
 */
async function limitOfThisMachine({ apps }: { apps: Applications }, key: string): Promise<number> {
  const start = Date.now();
  await apps.jobs(DUPLICATES, 'join', { key });
  const answeredAt = (await Promise.all(apps.all.map((app) => app.answeredAt(key)))).flat();
  const needed = median(
    answeredAt
      .filter((at) => at >= start)
      .map((at) => at - start)
      .sort((a, b) => a - b),
  );
  return needed < WAKE_UP_MS ? WAKE_UP_MS : WAKE_UP_MS + needed;
}

/** How many requests wait for a running one. */
async function waiting(apps: Applications): Promise<number> {
  const stats = await Promise.all(apps.all.map((app) => app.stats()));
  return stats.reduce((sum, { subscribers }) => sum + subscribers, 0);
}

/** How often the store was asked for a claim. */
async function claimsOf(apps: Applications): Promise<number> {
  const stats = await Promise.all(apps.all.map((app) => app.stats()));
  return stats.reduce((sum, { claims }) => sum + claims, 0);
}

function median(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)]!;
}

describeStores('duplicates that join the running request', (backend: Backend) => {
  const open = {} as { desk: Desk; place: Place; apps: Applications };

  beforeAll(async () => {
    open.desk = await Desk.open();
    open.place = await backend.open('joining');
    open.apps = await Applications.start(backend.processes, open.desk, { store: open.place.store });
  }, BOOT_MS);

  afterAll(async () => {
    await open.apps?.close();
    await open.place?.close();
    open.desk?.close();
  });

  it(`${DUPLICATES} of one call over all processes: one run, equal answers, half of them within ${WAKE_UP_MS} ms, a handful of connections`, async () => {
    // The call of three seconds first. A busy machine may keep everybody waiting for a while; not every time.
    const medians: number[] = [];
    let limit = WAKE_UP_MS;
    for (const [attempt, ms] of [3_000, 1_000, 1_000].entries()) {
      const { answers, waits, connections } = await joinOne(open, `slow-${attempt}`, ms);
      expect(answers).toHaveLength(DUPLICATES + 1);
      medians.push(median(waits));
      if (backend.name !== 'memory') {
        // However many wait. Of each process: the store's own four, the one that listens and the
        // application's; or one client and its subscriber.
        expect(connections.length).toBeGreaterThan(5);
        const most = backend.name === 'postgres' ? 6 : 2;
        expect(Math.max(...connections.map(({ open }) => open))).toBeLessThanOrEqual(most * backend.processes);
        expect(median(connections.map(({ busy }) => busy).sort((a, b) => a - b))).toBeLessThanOrEqual(
          backend.processes,
        );
      }
      if (median(waits) < WAKE_UP_MS) break;
      limit = Math.max(limit, await limitOfThisMachine(open, `slow-${attempt}`));
    }
    expect(Math.min(...medians)).toBeLessThan(limit);
  }, 90_000);

  it('gives up after joinTimeout with a 409', async () => {
    const { apps, desk } = open;
    const goOn = desk.hold('briefly');
    const first = apps.at(0).job('join-briefly', { key: 'briefly' });
    await desk.untilRuns('briefly', 1);
    const start = performance.now();
    for (const answer of await apps.jobs(6, 'join-briefly', { key: 'briefly' })) expectInProgress(answer);
    expect(performance.now() - start).toBeGreaterThanOrEqual(400);
    expect(await waiting(apps)).toBe(0);
    goOn();
    expectReplayOf(await first, await apps.at(1).job('join-briefly', { key: 'briefly' }));
    expect(desk.runsOf('briefly')).toHaveLength(1);
  }, 60_000);

  it('a waiter that leaves costs nothing: neither a subscription nor a question to the store is left of it', async () => {
    const { apps, desk } = open;
    const key = 'left-waiters';
    const goOn = desk.hold(key);
    const first = apps.at(0).job('join', { key });
    await desk.untilRuns(key, 1);
    const leave = deferred<void>();
    let mayLeave = false;
    void leave.promise.then(() => (mayLeave = true));
    const request = { headers: headersOf({ key }), body: { amount: 100 } };
    const left = Array.from({ length: 60 }, (_, index) =>
      sendAndLeave(apps.at(index).urlOf('join'), request, () => mayLeave),
    );
    await eventually(async () => (await waiting(apps)) === 60, 'they wait', PATIENCE_MS);
    leave.resolve();
    await Promise.all(left);
    await eventually(async () => (await waiting(apps)) === 0, 'nobody waits', PATIENCE_MS);
    const claims = await claimsOf(apps);
    await new Promise((resolve) => setTimeout(resolve, 1.5 * POLL_MS));
    expect(await claimsOf(apps)).toBe(claims);
    goOn();
    expectReplayOf(await first, await apps.at(1).job('join', { key }));
    expect(desk.runsOf(key)).toHaveLength(1);
  }, 60_000);

  it('when the running one fails and releases, exactly one waiter takes over', async () => {
    const { apps, desk } = open;
    const key = 'failing';
    const first = deferred<object>();
    const second = deferred<object>();
    desk.tell(key, ({ attempt }) => (attempt === 1 ? first.promise : second.promise));
    const failing = apps.at(0).job('join', { key });
    await desk.untilRuns(key, 1);
    const waiters = Array.from({ length: 30 }, (_, index) => apps.at(index).job('join', { key }));
    await eventually(async () => (await waiting(apps)) === 30, 'they wait', PATIENCE_MS);

    first.resolve({ fails: 503 });
    expect((await failing).status).toBe(503);
    expect((await failing).text).toBe('{"failed":503}');
    await desk.untilRuns(key, 2);
    await eventually(async () => (await waiting(apps)) === 29, 'the others wait for the second one', PATIENCE_MS);
    expect(desk.runsOf(key).map(({ attempt }) => attempt)).toEqual([1, 2]);

    second.resolve({});
    const answers = await Promise.all(waiters);
    const originals = answers.filter((answer) => !isReplay(answer));
    expect(originals).toHaveLength(1);
    expect(jobOf(originals[0]!)).toMatchObject({ attempt: 2 });
    for (const answer of answers) if (answer !== originals[0]) expectReplayOf(originals[0]!, answer);
    expect(desk.runsOf(key)).toHaveLength(2);
  }, 60_000);

  if (backend.name === 'memory') return;

  it('get the answer all the same when the connections that hear hints are cut', async () => {
    const { place } = open;
    let cuts = 0;
    const cut = await joinOne(open, 'cut', 1_500, async () => {
      for (const until = Date.now() + 500; Date.now() < until;) {
        cuts += await place.killListeners();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    });
    expect(cuts).toBeGreaterThan(0);
    expect(cut.waits.at(-1)).toBeLessThan(POLL_MS + 2_000);
  }, 60_000);

  it('when the process of the running one is killed, block: all get outcome unknown; rerun: one takes over, and all get its answer', async () => {
    const { apps, desk } = open;
    const victim = apps.at(0);
    desk.hold('block');
    desk.tell('rerun', ({ attempt }) => (attempt === 1 ? new Promise(() => undefined) : { lasts: 200 }));
    const lost = ['block', 'rerun'].map((key) => victim.job(`join-${key}`, { key }).catch((error: unknown) => error));
    for (const key of ['block', 'rerun']) await desk.untilRuns(key, 1);
    const survivors = apps.all.slice(1);
    const join = (key: string): Promise<Answer>[] =>
      Array.from({ length: 20 }, (_, index) => survivors[index % survivors.length]!.job(`join-${key}`, { key }));
    const waiters = { block: join('block'), rerun: join('rerun') };
    const isFull = async () =>
      (await Promise.all(survivors.map((app) => app.stats()))).reduce((n, { subscribers }) => n + subscribers, 0) ===
      40;
    await eventually(isFull, 'they wait', PATIENCE_MS);
    victim.process.kill();

    for (const answer of await Promise.all(waiters.block)) expectOutcomeUnknown(answer);
    expect(desk.runsOf('block')).toHaveLength(1);
    const answers = await Promise.all(waiters.rerun);
    const originals = answers.filter((answer) => !isReplay(answer));
    expect(originals).toHaveLength(1);
    expect(jobOf(originals[0]!)).toMatchObject({ attempt: 2 });
    for (const answer of answers) if (answer !== originals[0]) expectReplayOf(originals[0]!, answer);
    expect(desk.runsOf('rerun')).toHaveLength(2);
    expect(await Promise.all(lost)).toMatchObject([{ code: 'ECONNRESET' }, { code: 'ECONNRESET' }]);
  }, 60_000);
});

describeServers('duplicates that join while no hint comes', (backend) => {
  const open = {} as { desk: Desk; place: Place; apps: Applications };
  let hints: TcpProxy | undefined;

  beforeAll(async () => {
    open.desk = await Desk.open();
    open.place = await backend.open('joining-no-hints');
    let { store } = open.place;
    if (store.kind === 'postgres') store = { ...store, notify: false };
    if (store.kind === 'redis') {
      // The subscriber goes another way to the server, and that way is closed once it is there.
      const url = new URL(store.url);
      hints = await startProxy(Number(url.port || 6379));
      url.port = String(hints.port);
      store = { ...store, hintsUrl: url.href };
    }
    open.apps = await Applications.start(backend.processes, open.desk, { store });
    await hints?.refuse(true);
    hints?.cutAll();
  }, BOOT_MS);

  afterAll(async () => {
    await open.apps?.close();
    await hints?.close();
    await open.place?.close();
    open.desk?.close();
  });

  it('find the answer by asking from time to time', async () => {
    const { waits } = await joinOne(open, 'no-hints', 1_500);
    // The next look comes within a second; the rest is a busy machine's.
    expect(waits.at(-1)).toBeLessThan(POLL_MS + 2_000);
  }, 60_000);
});
