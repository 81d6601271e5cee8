import { setTimeout as pause } from 'node:timers/promises';
import { inParallel } from '../../sample-app/src/batches/in-parallel.js';
import { ITEMS_AT_A_TIME } from '../../sample-app/src/batches/batches.service.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { isReplay, post, postUntilSettled, rowsOf, spawnService, until, type Post } from './service.js';

/** Some ten seconds, most of them for the processes to start. */
const ITEMS = Number(process.env.BATCH_ITEMS ?? 1000);
const KILLS = 3;

function batch(key: string, count: number, instruction = 'Say it in one word.'): Post {
  const items = Array.from({ length: count }, (_, index) => ({ id: `row-${index}`, text: `Text number ${index}` }));
  return { key, body: { instruction, items } };
}

describe('POST /v1/batches', () => {
  let database: TestDatabase;
  const rows = (statement: string, values: unknown[] = []): Promise<any[]> => rowsOf(database.url, statement, values);

  beforeAll(async () => {
    database = await createTestDatabase('sample-app/batches.spec');
  });

  afterAll(async () => {
    await database?.drop();
  });

  const runsOfItems = async (): Promise<number> =>
    (await rows(`SELECT FROM handler_runs WHERE operation = 'batch item'`)).length;

  it(`of ${ITEMS} items, killed three times: only what was under way at a kill runs again`, async () => {
    const call = batch('killed', ITEMS);
    for (let kill = 1; kill <= KILLS; kill += 1) {
      const doomed = await spawnService(database.url);
      const lost = postUntilSettled(doomed, '/v1/batches', call).catch(() => 'no answer');
      const due = (kill * ITEMS) / (KILLS + 1);
      await until(async () => (await runsOfItems()) >= due, `item ${due}`);
      doomed.kill();
      await doomed.exited;
      expect(await lost).toBe('no answer');
    }
    const before = await runsOfItems();
    const last = await spawnService(database.url);
    const answer = await postUntilSettled(last, '/v1/batches', call);
    expect([answer.status, isReplay(answer)]).toEqual([200, false]);
    const { attempt, ran, replayed, results } = answer.json;
    const runs = await runsOfItems();
    console.log(`${ITEMS} items, ${KILLS} kills: ${runs} runs; the last attempt ran ${ran} and replayed ${replayed}`);
    expect(attempt).toBe(KILLS + 1);
    expect(results.map(({ id }: any) => id)).toEqual((call.body as any).items.map(({ id }: any) => id));
    for (const [index, { output }] of results.entries()) expect(output).toContain(`Text number ${index}"`);
    expect([ran + replayed, ran]).toEqual([ITEMS, runs - before]);
    expect(runs).toBeGreaterThanOrEqual(ITEMS);
    expect(runs).toBeLessThanOrEqual(ITEMS + KILLS * ITEMS_AT_A_TIME);
    const again = await post(last, '/v1/batches', call);
    expect([isReplay(again), again.text]).toEqual([true, answer.text]);
    expect(await runsOfItems()).toBe(runs);
    await last.stop();
  }, 180_000);

  it('refuses two items of one name, and the same key with another instruction', async () => {
    const app = await spawnService(database.url);
    const twins = { instruction: 'Say it.', items: [1, 2].map((n) => ({ id: 'twin', text: `number ${n}` })) };
    expect((await post(app, '/v1/batches', { key: 'twins', body: twins })).status).toBe(400);
    expect((await post(app, '/v1/batches', batch('small', 2))).json).toMatchObject({ ran: 2, replayed: 0 });
    const other = await post(app, '/v1/batches', batch('small', 2, 'Say it in two words.'));
    expect([other.status, other.json.code]).toEqual([422, 'idempotency_key_reused']);
    await app.stop();
  }, 60_000);
});

describe('work in parallel', () => {
  it('keeps the order, and never more at a time than it is told', async () => {
    let now = 0;
    let most = 0;
    const results = await inParallel([5, 1, 4, 2, 3], 2, async (item) => {
      most = Math.max(most, (now += 1));
      await pause(item);
      now -= 1;
      return item * 10;
    });
    expect([results, most]).toEqual([[50, 10, 40, 20, 30], 2]);
  });

  it('begins nothing after a failure, and throws it when what had begun is over', async () => {
    const begun: number[] = [];
    const ended: number[] = [];
    const work = async (item: number): Promise<void> => {
      begun.push(item);
      await pause(item === 1 ? 1 : 20);
      if (item === 1) throw new Error('the first');
      ended.push(item);
    };
    await expect(inParallel([1, 2, 3, 4], 2, work)).rejects.toThrow('the first');
    expect([begun, ended]).toEqual([[1, 2], [2]]);
  });
});
