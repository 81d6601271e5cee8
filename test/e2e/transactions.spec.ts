import { Body, ConflictException, Controller, HttpException, Post } from '@nestjs/common';
import { DataSource } from 'typeorm';
import {
  Idempotent,
  IdempotencyContext,
  IdempotencyService,
  memoryStore,
  type IdempotencyRunContext,
} from 'nestjs-idempotency';
import { CreateIdempotencyRecords1764000000000, idempotencyEntities, typeormStore } from 'nestjs-idempotency/typeorm';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { ADAPTERS, startApp, type RunningApp } from './support/app.js';
import { eventually, send } from './support/http-client.js';

let gate: (() => void) | undefined;
let runs = 0;

interface Order {
  fails?: 'conflict' | 'error' | 'aborts' | 'invalid';
  waits?: boolean;
  size?: number;
}

@Controller('credits')
@Idempotent({ transaction: true })
class CreditsController {
  @Post() async buy(@Body() order: Order, @IdempotencyContext() context: IdempotencyRunContext) {
    runs += 1;
    await context.manager.query('INSERT INTO purchases (key, attempt) VALUES ($1, $2)', [context.key, context.attempt]);
    if (order.waits) await new Promise<void>((resolve) => (gate = resolve));
    if (order.fails === 'conflict') throw new ConflictException();
    if (order.fails === 'invalid') throw new HttpException('no such plan', 422);
    if (order.fails === 'error') throw new Error('boom');
    if (order.fails === 'aborts') await context.manager.query('SELECT 1 / 0').catch(() => undefined);
    return { bought: context.key, padding: 'x'.repeat(order.size ?? 0) };
  }
}

describe.each(ADAPTERS)('transaction: true on %s', (adapter) => {
  let database: TestDatabase;
  let dataSource: DataSource;
  let running: RunningApp;

  beforeAll(async () => {
    database = await createTestDatabase(`transactions ${adapter}`);
    dataSource = await new DataSource({
      type: 'postgres',
      url: database.url,
      entities: idempotencyEntities(),
      migrations: [CreateIdempotencyRecords1764000000000],
      migrationsRun: true,
    }).initialize();
    await dataSource.query('CREATE TABLE purchases (key text, attempt int)');
    running = await startApp({
      adapter,
      controllers: [CreditsController],
      idempotency: { store: typeormStore({ dataSource }), lease: '1s', replayCache: false },
    });
  });
  afterAll(async () => {
    await running.close();
    await dataSource.destroy();
    await database.drop();
  });
  beforeEach(() => {
    runs = 0;
    gate = undefined;
  });

  const buy = (key: string, body: Order = {}) =>
    send(`${running.url}/credits`, { body, headers: { 'idempotency-key': key } });
  const purchases = async (key: string): Promise<number[]> =>
    (await dataSource.query<{ attempt: number }[]>('SELECT attempt FROM purchases WHERE key = $1', [key])).map(
      (row) => row.attempt,
    );

  it('writes and record become true together, and a retry replays', async () => {
    const first = await buy('one');
    const again = await buy('one');
    expect([first.status, again.text, await purchases('one')]).toEqual([201, first.text, [1]]);
    expect(runs).toBe(1);
  });

  it('what is not recorded is rolled back; the retry runs', async () => {
    expect((await buy('conflict', { fails: 'conflict' })).status).toBe(409);
    expect((await buy('error', { fails: 'error' })).status).toBe(500);
    expect([await purchases('conflict'), await purchases('error')]).toEqual([[], []]);
    await buy('error', { fails: 'error' });
    expect(runs).toBe(3);
  });

  it('a recorded error commits with its writes', async () => {
    const first = await buy('invalid', { fails: 'invalid' });
    expect((await buy('invalid', { fails: 'invalid' })).text).toBe(first.text);
    expect([runs, await purchases('invalid')]).toEqual([1, [1]]);
  });

  it('a transaction that the database has aborted gives 503, nothing is written, and the retry runs', async () => {
    const aborted = await buy('aborts', { fails: 'aborts' });
    expect(aborted.json()).toMatchObject({ status: 503, code: 'idempotency_store_unavailable' });
    expect(await purchases('aborts')).toEqual([]);
    await buy('aborts', { fails: 'aborts' });
    expect(runs).toBe(2);
  });

  it('duplicates get 409 at once while the transaction is open, and the answer goes out after the commit', async () => {
    const first = buy('open', { waits: true });
    await eventually(() => gate !== undefined, 'the handler');
    expect((await buy('open', { waits: true })).status).toBe(409);
    expect(await purchases('open')).toEqual([]);
    gate!();
    expect((await first).status).toBe(201);
    expect(await purchases('open')).toEqual([1]);
  });

  it('a run that has lost its claim rolls back, and the next retry runs', async () => {
    const first = buy('late', { waits: true });
    await eventually(() => gate !== undefined, 'the handler');
    // As if this process had stood still: the lease is over, and nobody has renewed it.
    await dataSource.query(
      `UPDATE idempotency_records SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 'in_progress'`,
    );
    gate!();
    expect((await first).json()).toMatchObject({ status: 503, code: 'idempotency_store_unavailable' });
    expect(await purchases('late')).toEqual([]);
    // Nothing was written, so nothing is unknown: the next retry runs.
    gate = undefined;
    const retry = buy('late', { waits: true });
    await eventually(() => gate !== undefined, 'the second run');
    gate!();
    expect((await retry).status).toBe(201);
    expect(await purchases('late')).toEqual([2]);
  });

  it.each([
    ['whose completion met a dead connection', {}, 503, 'idempotency_store_unavailable'],
    ['whose handler failed', { fails: 'error' }, 500, undefined],
  ] as [string, Order, number, string?][])(
    'a run %s after its claim was lost: not an unknown outcome, for it was undone',
    async (_, order, status, code) => {
      const first = buy(`lost-${status}`, { ...order, waits: true });
      await eventually(() => gate !== undefined, 'the handler');
      await dataSource.query(
        `UPDATE idempotency_records SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 'in_progress'`,
      );
      if (status === 503) {
        await dataSource.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE state = 'idle in transaction' AND datname = current_database()`,
        );
      }
      gate!();
      const answer = await first;
      expect([answer.status, (answer.json() as { code?: string }).code]).toEqual([status, code]);
      expect(await purchases(`lost-${status}`)).toEqual([]);
      gate = undefined;
      const retry = buy(`lost-${status}`, { ...order, waits: true });
      await eventually(() => gate !== undefined, 'the second run');
      gate!();
      expect((await retry).status).toBe(order.fails ? 500 : 201);
      expect(await purchases(`lost-${status}`)).toEqual(order.fails ? [] : [2]);
    },
  );

  it('an answer that is too large to keep commits, and does not run again', async () => {
    const body = { size: 2 * 1024 * 1024 };
    expect((await buy('large', body)).text.length).toBeGreaterThan(2 * 1024 * 1024);
    expect((await buy('large', body)).status).toBe(410);
    expect([runs, await purchases('large')]).toEqual([1, [1]]);
  });

  it('run() of the service shares a transaction too, and its manager ends with it', async () => {
    const idempotency = running.app.get(IdempotencyService);
    let kept: IdempotencyRunContext | undefined;
    const run = () =>
      idempotency.run({ operation: 'job', scope: 'acme', key: 'job', transaction: true }, async (context) => {
        kept = context;
        await context.manager.query('INSERT INTO purchases (key, attempt) VALUES ($1, $2)', ['job', context.attempt]);
        return 'done';
      });
    expect([await run(), await run()].map(({ replayed }) => replayed)).toEqual([false, true]);
    expect(await purchases('job')).toEqual([1]);
    expect(() => kept!.manager).toThrow(/only while the handler runs/);
    await idempotency.run({ operation: 'job', scope: 'acme', key: 'plain' }, (context) =>
      expect(() => context.manager).toThrow(/transaction: true/),
    );
  });
});

it('a store that shares no transaction is refused at boot, by the name of the handler', async () => {
  await expect(
    startApp({ adapter: 'express', controllers: [CreditsController], idempotency: { store: memoryStore() } }),
  ).rejects.toThrow(/CreditsController\.buy: transaction: true needs a store/);
});
