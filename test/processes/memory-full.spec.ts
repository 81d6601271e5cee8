import { eventually } from '../e2e/support/http-client.js';
import { expectInProgress, expectReplayOf, expectStoreUnavailable } from './support/answers.js';
import { Applications, BOOT_MS, jobOf } from './support/applications.js';
import { Desk } from './support/desk.js';

describe('a memory store that is full', () => {
  let desk: Desk;
  let apps: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    apps = await Applications.start(1, desk, { store: { kind: 'memory', maxRecords: 3 } });
  }, BOOT_MS);

  afterAll(async () => {
    await apps?.close();
    desk?.close();
  });

  it('answers 503 without running, forgets neither a live nor a completed record for it, and works again when one has ended', async () => {
    const app = apps.at(0);
    const goOn = desk.hold('running');
    const running = app.job('plain', { key: 'running' });
    await desk.untilRuns('running', 1);
    const kept = await app.job('plain', { key: 'kept' });
    // One of the three ends soon after it has run.
    expect(jobOf(await app.job('short', { key: 'ends' })).attempt).toBe(1);

    const refused = await app.job('plain', { key: 'new' });
    expectStoreUnavailable(refused);
    expect(desk.runsOf('new')).toEqual([]);
    expectInProgress(await app.job('plain', { key: 'running' }));
    expectReplayOf(kept, await app.job('plain', { key: 'kept' }));

    await eventually(async () => {
      const answer = await app.job('plain', { key: 'new' });
      if (answer.status === 201) return true;
      expectStoreUnavailable(answer);
      return false;
    }, 'there is room again');
    expect(desk.runsOf('new')).toHaveLength(1);
    goOn();
    expectReplayOf(await running, await app.job('plain', { key: 'running' }));
  }, 60_000);
});
