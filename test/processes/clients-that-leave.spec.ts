import { eventually, sendAndLeave } from '../e2e/support/http-client.js';
import { expectOutcomeUnknown, expectReplayOf, isReplay } from './support/answers.js';
import { Applications, BOOT_MS, headersOf, jobOf } from './support/applications.js';
import { Desk } from './support/desk.js';
import { describeServers, type Place } from './support/places.js';

const PATIENCE_MS = 15_000;

describeServers('a client that leaves', (backend) => {
  let desk: Desk;
  let place: Place;
  let apps: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('leaving');
    apps = await Applications.start(2, desk, { store: place.store });
  }, BOOT_MS);

  afterAll(async () => {
    await apps?.close();
    await place?.close();
    desk?.close();
  });

  it('does not stop the handler: its answer is recorded, and a retry on another process gets it', async () => {
    for (const [index, app] of apps.all.entries()) {
      const key = `left-${index}`;
      const goOn = desk.hold(key);
      await leave(index, 'plain', key);
      expect(await app.find('plain', key)).toMatchObject({ state: 'in_progress' });
      goOn({ lasts: 20 });
      await eventually(async () => (await app.find('plain', key))?.state === 'completed', 'it is recorded');
      const retry = await apps.at(index + 1).job('plain', { key });
      expect(jobOf(retry)).toMatchObject(desk.runsOf(key)[0]!);
      expect(isReplay(retry)).toBe(true);
      expectReplayOf(retry, await app.job('plain', { key }));
      expect(desk.runsOf(key)).toHaveLength(1);
      expect(desk.aborts.filter((abort) => abort.key === key)).toEqual([]);
    }
  }, 60_000);

  it("aborts the signal where the route says onDisconnect: 'cancel'; what the handler makes of it is recorded", async () => {
    for (const [index, app] of apps.all.entries()) {
      const key = `cancelled-${index}`;
      desk.tell(key, { untilAborted: true });
      await leave(index, 'cancel', key);
      await eventually(async () => (await app.find('cancel', key))?.state === 'completed', 'it is recorded');
      const { pid } = app.process;
      expect(desk.aborts.filter((abort) => abort.key === key)).toEqual([
        { key, attempt: 1, pid, reason: 'ClientLeftError' },
      ]);
      expectReplayOf(await apps.at(index + 1).job('cancel', { key }), await app.job('cancel', { key }));
      expect(desk.runsOf(key)).toHaveLength(1);
    }
  }, 60_000);

  async function leave(index: number, route: string, key: string): Promise<void> {
    const request = { headers: headersOf({ key }), body: { amount: 100 } };
    await sendAndLeave(apps.at(index).urlOf(route), request, () => desk.runsOf(key).length === 1);
  }
});

describeServers('an application that is shut down', (backend) => {
  let desk: Desk;
  let place: Place;
  let staying: Applications;
  let leaving: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('shutdown');
    [staying, leaving] = await Promise.all([
      Applications.start(1, desk, { store: place.store }),
      Applications.start(2, desk, { store: place.store }),
    ]);
  }, BOOT_MS);

  afterAll(async () => {
    await staying?.close();
    await leaving?.close();
    await place?.close();
    desk?.close();
  });

  it('answers and records what still runs, also for a client that has left, and then goes by itself', async () => {
    await Promise.all(
      leaving.all.map(async (app, index) => {
        const [here, gone] = [`client-here-${index}`, `client-gone-${index}`];
        const answerHere = desk.hold(here);
        const answerGone = desk.hold(gone);
        const sent = app.job('plain', { key: here });
        const request = { headers: headersOf({ key: gone }), body: { amount: 100 } };
        await sendAndLeave(app.urlOf('plain'), request, () => desk.runsOf(gone).length === 1);
        await desk.untilRuns(here, 1);
        let exited = false;
        void app.process.exited.then(() => (exited = true));

        app.process.kill('SIGTERM');
        answerHere();
        const answer = await sent;
        expect(isReplay(answer)).toBe(false);
        expect(jobOf(answer).attempt).toBe(1);
        // The other handler has nobody who waits for it but the application itself.
        await new Promise((resolve) => setTimeout(resolve, 500));
        expect(exited).toBe(false);
        expect(await staying.at(0).find('plain', gone)).toMatchObject({ state: 'in_progress' });

        answerGone();
        expect(await app.process.exited).toEqual({ code: null, signal: 'SIGTERM' });
        expectReplayOf(answer, await staying.at(0).job('plain', { key: here }));
        const unheard = await staying.at(0).job('plain', { key: gone });
        expect(jobOf(unheard)).toMatchObject(desk.runsOf(gone)[0]!);
        expect(isReplay(unheard)).toBe(true);
        expect(desk.runsOf(here)).toHaveLength(1);
        expect(desk.runsOf(gone)).toHaveLength(1);
      }),
    );
  }, 60_000);

  it('does not wait longer than shutdownTimeout; what was cut off is left as outcome unknown', async () => {
    const impatient = await leaving.replace(leaving.at(0), { idempotency: { shutdownTimeout: '300ms' } });
    desk.hold('endless');
    const request = { headers: headersOf({ key: 'endless' }), body: { amount: 100 } };
    await sendAndLeave(impatient.urlOf('block'), request, () => desk.runsOf('endless').length === 1);
    impatient.process.kill('SIGTERM');
    expect(await impatient.process.exited).toEqual({ code: null, signal: 'SIGTERM' });
    const isAbandoned = async () => (await staying.at(0).find('block', 'endless'))?.state === 'abandoned';
    await eventually(isAbandoned, 'the lease is over', PATIENCE_MS);
    expectOutcomeUnknown(await staying.at(0).job('block', { key: 'endless' }));
    expect(desk.runsOf('endless')).toHaveLength(1);
  }, 60_000);
});
