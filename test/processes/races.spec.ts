import { Applications, BOOT_MS, jobOf } from './support/applications.js';
import { codeOf, expectInProgress, expectReplayOf, isReplay } from './support/answers.js';
import { Desk } from './support/desk.js';
import { describeStores, type Place } from './support/places.js';

const ROUNDS = 5;
const REQUESTS = 100;

describeStores('a hundred requests with one key at once', (backend) => {
  let desk: Desk;
  let place: Place;
  let apps: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('races');
    apps = await Applications.start(backend.processes, desk, { store: place.store });
  }, BOOT_MS);

  afterAll(async () => {
    await apps?.close();
    await place?.close();
    desk?.close();
  });

  it(`runs the handler once in each of ${ROUNDS} rounds; every other answer is a 409 or the replay`, async () => {
    const seen = { first: 0, replays: 0, inProgress: 0 };
    const winners = new Set<number>();
    for (let round = 0; round < ROUNDS; round++) {
      const key = `round-${round}`;
      // Short enough in some rounds for late requests to find it completed, long enough in others for a crowd.
      desk.tell(key, { lasts: (round % 5) * 15 });
      const answers = await apps.jobs(REQUESTS, 'plain', { key });

      const [run, ...more] = desk.runsOf(key);
      expect(more).toEqual([]);
      expect(run).toMatchObject({ route: 'plain', attempt: 1 });
      winners.add(run!.pid);
      const successes = answers.filter(({ status }) => status === 201);
      const originals = successes.filter((answer) => !isReplay(answer));
      expect(originals).toHaveLength(1);
      const original = originals[0]!;
      expect(jobOf(original)).toMatchObject(run!);
      for (const answer of answers) {
        if (answer === original) continue;
        if (answer.status === 201) expectReplayOf(original, answer);
        else expectInProgress(answer);
      }
      for (const app of apps.all) expectReplayOf(original, await app.job('plain', { key }));
      expect(desk.runsOf(key)).toHaveLength(1);

      seen.first += 1;
      seen.replays += successes.length - 1;
      seen.inProgress += answers.filter((answer) => codeOf(answer) === 'idempotency_in_progress').length;
    }
    expect(desk.runs).toHaveLength(ROUNDS);
    expect(seen.first + seen.replays + seen.inProgress).toBe(ROUNDS * REQUESTS);
    // Neither outcome is there for the lack of the other, and no process wins by its place in line alone.
    expect(seen.replays).toBeGreaterThan(0);
    expect(seen.inProgress).toBeGreaterThan(0);
    if (backend.processes > 1) expect(winners.size).toBeGreaterThan(1);
  }, 120_000);
});
