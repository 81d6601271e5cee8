import { eventually } from '../e2e/support/http-client.js';
import { Applications, BOOT_MS, jobOf } from './support/applications.js';
import { codeOf, expectInProgress, expectReplayOf, isReplay } from './support/answers.js';
import { Desk } from './support/desk.js';
import { describeStores, type Place } from './support/places.js';

const ROUNDS = 50;
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
    let inProgress = 0;
    const winners = new Set<number>();
    for (let round = 0; round < ROUNDS; round++) {
      const key = `round-${round}`;
      // In some rounds the handler ends at once, in others not before a crowd has been turned away.
      const crowd = (round % 5) * 24;
      let answered = 0;
      desk.tell(key, async () => {
        await eventually(() => answered >= crowd, `${crowd} are answered`, 30_000);
        return {};
      });
      const answers = await Promise.all(
        Array.from({ length: REQUESTS }, async (_, index) => {
          const answer = await apps.at(index + round).job('plain', { key });
          answered += 1;
          return answer;
        }),
      );

      const [run, ...more] = desk.runsOf(key);
      expect(more).toEqual([]);
      expect(run).toMatchObject({ route: 'plain', attempt: 1 });
      winners.add(run!.pid);
      const originals = answers.filter((answer) => answer.status === 201 && !isReplay(answer));
      expect(originals).toHaveLength(1);
      const original = originals[0]!;
      expect(jobOf(original)).toMatchObject(run!);
      for (const answer of answers) {
        if (answer === original) continue;
        if (answer.status === 201) expectReplayOf(original, answer);
        else expectInProgress(answer);
      }
      const turnedAway = answers.filter((answer) => codeOf(answer) === 'idempotency_in_progress').length;
      expect(turnedAway).toBeGreaterThanOrEqual(crowd);
      inProgress += turnedAway;
      for (const app of apps.all) expectReplayOf(original, await app.job('plain', { key }));
      expect(desk.runsOf(key)).toHaveLength(1);
    }
    expect(desk.runs).toHaveLength(ROUNDS);
    expect(inProgress).toBeGreaterThanOrEqual(ROUNDS * 48);
    expect(winners.size).toBe(apps.length);
  }, 120_000);
});
