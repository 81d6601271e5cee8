import pg from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { spawnFixture, type Fixture } from '../support/processes.js';
import type { HelperConfig, Order } from './fixtures/order.js';

/** In processes of their own: `@nestjs-cls/transactional` is CommonJS, which Jest cannot load beside Nest 12. */
const HELPERS = [
  ['@nestjs-cls/transactional', 'nestjs-cls'],
  ['typeorm-transactional', 'typeorm-transactional'],
] as const;

const BOTH = ['the context', 'the helper'];

describe.each(HELPERS)('transaction: true with %s', (_name, fixture) => {
  let database: TestDatabase;
  let client: pg.Client;

  beforeAll(async () => {
    database = await createTestDatabase(`transaction-helpers/${fixture}`);
    client = new pg.Client({ connectionString: database.url });
    await client.connect();
  });

  afterAll(async () => {
    await client?.end();
    await database?.drop();
  });

  const start = (config: Omit<HelperConfig, 'databaseUrl'>): Promise<Fixture> =>
    spawnFixture(new URL(`./fixtures/${fixture}.ts`, import.meta.url), {
      env: { FIXTURE: JSON.stringify({ ...config, databaseUrl: database.url }) },
    });

  async function order(
    app: Fixture,
    key: string,
    body: Order,
  ): Promise<{ status: number; json: any; replayed: boolean }> {
    const response = await fetch(`${app.url}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(body),
    });
    const replayed = response.headers.get('idempotent-replayed') === 'true';
    return { status: response.status, json: await response.json(), replayed };
  }

  /** By whom the item's rows were written. */
  async function written(item: string): Promise<string[]> {
    const found = await client.query<{ by: string }>(
      'SELECT written_by AS by FROM orders WHERE item = $1 ORDER BY written_by',
      [item],
    );
    return found.rows.map(({ by }) => by);
  }

  describe('and a store that opens its transactions through the helper', () => {
    let app: Fixture;

    beforeAll(async () => {
      app = await start({ told: true });
    });

    afterAll(async () => {
      await app?.stop();
    });

    it('what the helper’s services write commits with the record, once', async () => {
      const first = await order(app, 'once', { item: 'book' });
      expect(first).toMatchObject({ status: 201, replayed: false });
      expect(await order(app, 'once', { item: 'book' })).toEqual({ ...first, replayed: true });
      expect(await written('book')).toEqual(BOTH);
    });

    it('a recorded refusal keeps it; a released failure rolls it back', async () => {
      expect((await order(app, 'declined', { item: 'declined', ending: 'decline' })).status).toBe(402);
      expect((await order(app, 'declined', { item: 'declined', ending: 'decline' })).replayed).toBe(true);
      expect(await written('declined')).toEqual(BOTH);
      for (let times = 0; times < 2; times += 1) {
        expect((await order(app, 'failed', { item: 'failed', ending: 'fail' })).status).toBe(500);
        expect(await written('failed')).toEqual([]);
      }
    });

    it('many at once do not see each other’s transactions', async () => {
      const names = Array.from({ length: 30 }, (_, index) => `crowd-${index}`);
      const ending = (index: number): Partial<Order> => (index % 3 === 0 ? { ending: 'fail' } : {});
      const answers = await Promise.all(names.map((item, index) => order(app, item, { item, ...ending(index) })));
      expect(answers.map(({ status }) => status)).toEqual(names.map((_, index) => (index % 3 === 0 ? 500 : 201)));
      for (const [index, item] of names.entries()) expect(await written(item)).toEqual(index % 3 === 0 ? [] : BOTH);
    });

    it('a process killed before its commit has written nothing; the retry writes once', async () => {
      const doomed = await start({ told: true });
      const holder = new pg.Client({ connectionString: database.url });
      await holder.connect();
      // The first of the two writes waits: the handler stands still in its transaction.
      await holder.query('BEGIN; LOCK TABLE orders IN SHARE MODE');
      const lost = order(doomed, 'killed', { item: 'killed' }).catch(() => 'no answer');
      for (;;) {
        const waiting = await client.query(
          `SELECT FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass AND mode = 'RowExclusiveLock'`,
        );
        if (waiting.rows.length > 0) break;
      }
      doomed.kill();
      await doomed.exited;
      await holder.query('ROLLBACK');
      await holder.end();
      expect(await lost).toBe('no answer');
      let answer = await order(app, 'killed', { item: 'killed' });
      while (answer.json.code === 'idempotency_in_progress') answer = await order(app, 'killed', { item: 'killed' });
      expect(answer).toMatchObject({ status: 201, replayed: false, json: { attempt: 2 } });
      expect(await written('killed')).toEqual(BOTH);
    });
  });

  it('and a store that was not told of the helper, the helper writes outside of the transaction', async () => {
    const app = await start({ told: false });
    expect((await order(app, 'apart', { item: 'apart', ending: 'fail' })).status).toBe(500);
    // Why the README says that the store has to be told.
    expect(await written('apart')).toEqual(['the helper']);
    await app.stop();
  });
});
