import pg from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import type { Fixture } from '../support/processes.js';
import { isReplay, post, postUntilSettled, rowsOf, spawnService, until, usage } from './service.js';

describe('POST /v1/credits when its process is killed', () => {
  let database: TestDatabase;
  const rows = (statement: string, values: unknown[] = []): Promise<any[]> => rowsOf(database.url, statement, values);

  beforeAll(async () => {
    database = await createTestDatabase('sample-app/credits.spec');
  });

  afterAll(async () => {
    await database?.drop();
  });

  async function killed(fixture: Fixture): Promise<void> {
    fixture.kill();
    await fixture.exited;
  }

  /** What there is of a purchase: in the database, and at the provider. */
  async function foundOf(credits: number): Promise<Record<string, number>> {
    const count = async (statement: string): Promise<number> => (await rows(statement, [credits])).length;
    return {
      purchases: await count('SELECT FROM credit_purchases WHERE credits = $1'),
      messages: await count('SELECT FROM outbox_messages WHERE amount_cents = $1'),
      sent: await count('SELECT FROM outbox_messages WHERE amount_cents = $1 AND sent_at IS NOT NULL'),
      charges: await count('SELECT FROM payment_charges WHERE amount_cents = $1'),
      requests: await count(
        'SELECT FROM payment_requests JOIN payment_charges USING (idempotency_key) WHERE amount_cents = $1',
      ),
    };
  }

  it('before the commit: nothing has happened, and the retry buys', async () => {
    const doomed = await spawnService(database.url);
    const holder = new pg.Client({ connectionString: database.url });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE credit_purchases IN SHARE MODE');
    const lost = post(doomed, '/v1/credits', { key: 'before', body: { credits: 301 } }).catch(() => 'no answer');
    await until(
      async () =>
        (await rows(`SELECT FROM pg_locks WHERE NOT granted AND relation = 'credit_purchases'::regclass`)).length > 0,
      'the handler in its transaction',
    );
    await killed(doomed);
    await holder.query('ROLLBACK');
    await holder.end();
    expect(await lost).toBe('no answer');

    const next = await spawnService(database.url);
    const answer = await postUntilSettled(next, '/v1/credits', { key: 'before', body: { credits: 301 } });
    expect([answer.status, isReplay(answer)]).toEqual([201, false]);
    await until(async () => (await foundOf(301)).sent === 1, 'the charge');
    expect(await foundOf(301)).toEqual({ purchases: 1, messages: 1, sent: 1, charges: 1, requests: 1 });
    // The run that was rolled back has left no line either.
    const { runs } = await usage(next);
    expect(runs.map(({ attempt }: any) => attempt)).toEqual([2]);
    await next.stop();
  }, 60_000);

  it('after the commit, with the message sent and not marked: it is sent again, and charged once', async () => {
    const doomed = await spawnService(database.url, { PAYMENT_DELAY_MS: '600000' });
    const answer = await post(doomed, '/v1/credits', { key: 'after', body: { credits: 302 } });
    expect(answer.status).toBe(201);
    await until(async () => (await foundOf(302)).charges === 1, 'the charge of which nobody has heard');
    await killed(doomed);
    expect(await foundOf(302)).toEqual({ purchases: 1, messages: 1, sent: 0, charges: 1, requests: 1 });

    const next = await spawnService(database.url);
    const replay = await post(next, '/v1/credits', { key: 'after', body: { credits: 302 } });
    expect([isReplay(replay), replay.text]).toEqual([true, answer.text]);
    await until(async () => (await foundOf(302)).sent === 1, 'the mark');
    expect(await foundOf(302)).toEqual({ purchases: 1, messages: 1, sent: 1, charges: 1, requests: 2 });
    const { credits } = await usage(next);
    const charge = credits.charges.find(({ amount_cents }: any) => amount_cents === 302);
    expect(credits.purchases).toContainEqual({
      ...{ id: answer.json.id, credits: 302, amount_cents: 302, charge: charge.id },
    });
    await next.stop();
  }, 60_000);
});
