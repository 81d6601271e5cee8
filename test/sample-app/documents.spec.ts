import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { isReplay, post, postUntilSettled, spawnService, until, usage, type Post } from './service.js';

const PARTS = ['one', 'two', 'three'].map((word) => `${word} `.repeat(120).trim());
const ALL_STEPS = ['split', 'embed 1', 'embed 2', 'embed 3', 'store', 'summarise'];

/** A new form each time, as a client that retries builds one. */
function upload(key: string): Post {
  const body = new FormData();
  body.set('file', new File([PARTS.join('\n\n')], 'notes.txt', { type: 'text/plain' }));
  return { key, body };
}

describe('POST /v1/documents when its process is killed', () => {
  let database: TestDatabase;

  beforeAll(async () => {
    database = await createTestDatabase('sample-app/documents.spec');
  });

  afterAll(async () => {
    await database?.drop();
  });

  it('between two paid calls: each call is on the bill once, whatever number of processes it took', async () => {
    const key = 'killed-between';
    // Each process gets one paid call further, and rests then for longer than it lives.
    for (const done of [['split', 'embed 1'], ['embed 2']]) {
      const doomed = await spawnService(database.url, { MODEL_PAUSE_MS: '600000' });
      // Its predecessor's claim may still live; the answer itself never comes.
      const lost = postUntilSettled(doomed, '/v1/documents', upload(key)).catch(() => 'no answer');
      await until(async () => {
        const { runs } = await usage(doomed);
        return runs.at(-1)?.steps.join() === done.join();
      }, `the steps ${done.join()}`);
      doomed.kill();
      await doomed.exited;
      expect(await lost).toBe('no answer');
    }
    const last = await spawnService(database.url);
    const answer = await postUntilSettled(last, '/v1/documents', upload(key));
    expect([answer.status, isReplay(answer)]).toEqual([201, false]);
    expect(answer.json).toMatchObject({ parts: 3, summary: expect.any(String) });
    const { runs, model_calls } = await usage(last);
    expect(runs.map(({ attempt }: any) => attempt)).toEqual([1, 2, 3]);
    expect(runs.flatMap(({ steps }: any) => steps)).toEqual(ALL_STEPS);
    expect(model_calls.map(({ attempt, kind }: any) => `${attempt} ${kind}`)).toEqual([
      ...['1 embedding', '2 embedding', '3 embedding', '3 chat'],
    ]);
    expect(model_calls.every(({ finished_at }: any) => finished_at !== null)).toBe(true);
    const replay = await post(last, '/v1/documents', upload(key));
    expect([isReplay(replay), replay.text]).toEqual([true, answer.text]);
    await last.stop();
  }, 120_000);

  it('inside a paid call: that call alone is paid twice', async () => {
    const key = 'killed-inside';
    const doomed = await spawnService(database.url, { MODEL_DELAY_MS: '600000' });
    const before = await usage(doomed);
    const lost = post(doomed, '/v1/documents', upload(key)).catch(() => 'no answer');
    await until(
      async () => (await usage(doomed)).model_calls.length > before.model_calls.length,
      'the call that is to be cut',
    );
    doomed.kill();
    await doomed.exited;
    expect(await lost).toBe('no answer');
    const next = await spawnService(database.url);
    expect((await postUntilSettled(next, '/v1/documents', upload(key))).status).toBe(201);
    const after = await usage(next);
    const calls = after.model_calls.slice(before.model_calls.length);
    expect(calls.map(({ attempt, finished_at }: any) => [attempt, finished_at !== null])).toEqual([
      [1, false],
      ...Array.from({ length: 4 }, () => [2, true]),
    ]);
    expect(after.runs.slice(before.runs.length).map(({ steps }: any) => steps)).toEqual([
      ['split'],
      ALL_STEPS.slice(1),
    ]);
    await next.stop();
  }, 60_000);
});
