import type { Answer } from '../e2e/support/http-client.js';
import { PIPELINE } from './fixtures/config.js';
import { isReplay } from './support/answers.js';
import { BOOT_MS } from './support/applications.js';
import { Desk } from './support/desk.js';
import { describeServers, type Place } from './support/places.js';
import { Worker } from './support/workers.js';

/** Each round kills a process that has one pipeline of each way at each of the points. */
const ROUNDS = Number(process.env['PIPELINE_ROUNDS'] ?? 1);

/** Before, inside and after each step: after one is before the next. */
const POINTS = [...PIPELINE.flatMap((name) => [`before ${name}`, `inside ${name}`]), 'after all'];

/** A handler's pipeline, and one of `IdempotencyService.run`. */
const WAYS = ['pipelines', 'jobs/pipelines'] as const;

describeServers('a pipeline whose process is killed', (backend) => {
  let desk: Desk;
  let place: Place;
  let survivor: Worker;
  const start = (adapter: 'express' | 'fastify') =>
    Worker.start({ adapter, store: place.store, desk: desk.url, idempotency: {} });

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('pipelines');
    survivor = await start('express');
  }, BOOT_MS);

  afterAll(async () => {
    await survivor?.kill();
    await place?.close();
    desk?.close();
  });

  it.each(Array.from({ length: ROUNDS }, (_, round) => round))(
    'at 11 points: the retry elsewhere completes it, and only the call that was cut inside is paid twice (round %d)',
    async (round) => {
      const cases = POINTS.flatMap((point) => WAYS.map((way) => ({ point, way, key: `${round} ${way} ${point}` })));
      const victim = await start(round % 2 === 0 ? 'fastify' : 'express');
      for (const { key, point } of cases) desk.holdAt(key, point);
      const cut = cases.map(({ way, key }) => victim.post(way, key).catch((error: unknown) => error));
      await Promise.all(cases.map(({ key, point }) => desk.untilAt(key, point)));
      await victim.kill();
      for (const client of cut) expect(await client).toMatchObject({ code: 'ECONNRESET' });
      for (const { key, point } of cases) desk.letGo(key, point);

      const answers = await Promise.all(cases.map(({ way, key }) => survivor.untilDecided(way, key)));
      for (const [index, { key, point }] of cases.entries()) {
        const finished = Math.floor(POINTS.indexOf(point) / 2);
        const inside = point.startsWith('inside');
        const calls = desk.callsOf(key);
        // The bill: all that was finished before, the cut one for nothing, and then the rest.
        expect({ key, calls: calls.map(({ name, attempt }) => `${name} ${attempt}`) }).toEqual({
          key,
          calls: [
            ...PIPELINE.slice(0, finished).map((name) => `${name} 1`),
            ...(inside ? [`${PIPELINE[finished]} 1`] : []),
            ...PIPELINE.slice(finished).map((name) => `${name} 2`),
          ],
        });
        expectCompleted(answers[index]!, key);
        // The provider sees the same key for both calls of a step, and another one for each step.
        expect(new Set(calls.map(({ name, downstreamKey }) => `${name} ${downstreamKey}`)).size).toBe(PIPELINE.length);
        expect(new Set(calls.map(({ downstreamKey }) => downstreamKey)).size).toBe(PIPELINE.length);
      }

      const before = desk.calls.length;
      const retries = await Promise.all(cases.map(({ way, key }) => survivor.post(way, key)));
      for (const [index, retry] of retries.entries()) {
        expect(receiptsOf(retry)).toEqual(receiptsOf(answers[index]!));
        expect(cases[index]!.way === 'pipelines' ? isReplay(retry) : retry.json()['replayed']).toBe(true);
      }
      expect(desk.calls).toHaveLength(before);
    },
    180_000,
  );

  /** A first answer, made of what was recorded: the last call of each step. */
  function expectCompleted(answer: Answer, key: string): void {
    expect({ key, status: answer.status, replay: isReplay(answer) }).toEqual({ key, status: 201, replay: false });
    const receipts = PIPELINE.map((step) => desk.calls.findLastIndex((call) => call.key === key && call.name === step));
    expect(receiptsOf(answer)).toEqual(receipts);
  }
});

function receiptsOf(answer: Answer): number[] {
  return answer.json<{ value: number[] }>().value;
}
