import pg from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { isReplay, KEYS, post, postUntilSettled, rowsOf, spawnService, until, type Post } from './service.js';

describe('POST /v1/charges when its process is killed', () => {
  let database: TestDatabase;
  const rows = (statement: string, values: unknown[] = []): Promise<any[]> => rowsOf(database.url, statement, values);

  beforeAll(async () => {
    database = await createTestDatabase('sample-app/charges.spec');
  });

  afterAll(async () => {
    await database?.drop();
  });

  const order = (key: string, amount_cents: number): Post => ({ key, body: { amount_cents } });
  const chargesOf = (cents: number): Promise<any[]> =>
    rows('SELECT id, idempotency_key AS key FROM payment_charges WHERE amount_cents = $1', [cents]);

  /** The money is taken, and the process dies before it hears so. */
  async function killedAfterCharge(key: string, cents: number): Promise<string> {
    const doomed = await spawnService(database.url, { PAYMENT_DELAY_MS: '600000' });
    const lost = post(doomed, '/v1/charges', order(key, cents)).catch(() => 'no answer');
    await until(async () => (await chargesOf(cents)).length === 1, 'the charge');
    doomed.kill();
    await doomed.exited;
    expect(await lost).toBe('no answer');
    return (await chargesOf(cents))[0].id;
  }

  it('the provider is asked by one process at a time, and its answer is everybody’s', async () => {
    const charge = await killedAfterCharge('asked', 501);
    const settings = { PAYMENT_DELAY_MS: '300' };
    const apps = await Promise.all([spawnService(database.url, settings), spawnService(database.url, settings)]);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => postUntilSettled(apps[index % 2]!, '/v1/charges', order('asked', 501))),
    );
    for (const answer of answers) {
      expect([answer.status, isReplay(answer)]).toEqual([201, true]);
      expect(answer.json).toEqual({ id: charge, object: 'charge', amount_cents: 501 });
    }
    expect(await chargesOf(501)).toHaveLength(1);
    const requests = await rows(
      'SELECT kind FROM payment_requests JOIN payment_charges USING (idempotency_key) WHERE amount_cents = 501 ORDER BY received_at',
    );
    expect(requests.map(({ kind }) => kind)).toEqual(['charge', 'lookup']);
    await Promise.all(apps.map((app) => app.stop()));
  }, 60_000);

  it('before the provider has charged: the provider says so, and the retry charges', async () => {
    const doomed = await spawnService(database.url);
    const holder = new pg.Client({ connectionString: database.url });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE payment_requests IN SHARE MODE');
    const lost = post(doomed, '/v1/charges', order('not-charged', 502)).catch(() => 'no answer');
    await until(
      async () =>
        (await rows(`SELECT FROM pg_locks WHERE NOT granted AND relation = 'payment_requests'::regclass`)).length > 0,
      'the request to the provider',
    );
    doomed.kill();
    await doomed.exited;
    await holder.query('ROLLBACK');
    await holder.end();
    expect(await lost).toBe('no answer');
    expect(await chargesOf(502)).toEqual([]);

    const next = await spawnService(database.url);
    const answer = await postUntilSettled(next, '/v1/charges', order('not-charged', 502));
    expect([answer.status, isReplay(answer)]).toEqual([201, false]);
    expect((await chargesOf(502)).map(({ id }) => id)).toEqual([answer.json.id]);
    await next.stop();
  }, 60_000);

  it('and the provider does not say: the outcome is unknown until an operator settles it', async () => {
    const charge = await killedAfterCharge('mute', 503);
    const mute = await spawnService(database.url, { PAYMENT_LOOKUPS: 'off' });
    for (let times = 0; times < 2; times += 1) {
      const { status, json, headers } = await postUntilSettled(mute, '/v1/charges', order('mute', 503));
      expect([status, json.code]).toEqual([409, 'idempotency_outcome_unknown']);
      expect(headers.get('x-should-retry')).toBe('false');
    }
    const found = { id: charge, object: 'charge', amount_cents: 503 };
    const settlement = { outcome: 'completed', status: 201, body: found };
    const name = { tenant: 'acme', operation: 'POST /v1/charges', key: 'mute' };
    const resolve = (): Promise<{ status: number }> =>
      post(mute, '/operator/records/resolve', { apiKey: KEYS.operator, body: { ...name, ...settlement } });
    expect((await resolve()).status).toBe(200);
    const retry = await post(mute, '/v1/charges', order('mute', 503));
    expect([retry.status, isReplay(retry), retry.json]).toEqual([201, true, found]);
    expect((await resolve()).status).toBe(404);
    expect(await chargesOf(503)).toHaveLength(1);
    await mute.stop();
  }, 60_000);
});
