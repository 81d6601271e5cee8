import { Body, Controller, HttpException, Post } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  IdempotencyContext,
  IdempotencyService,
  Idempotent,
  type IdempotencyOperation,
  type IdempotencyRunContext,
} from 'nestjs-idempotency';
import { CreateIdempotencyRecords1764000000000, typeormStore } from 'nestjs-idempotency/typeorm';
import { DataSource } from 'typeorm';
import { ADAPTERS, startApp, type RunningApp } from '../e2e/support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';

let runs = 0;

@Controller()
class OrdersController {
  @Post('orders')
  @Idempotent({ transaction: true })
  async order(
    @Body() { item, ending }: { item: string; ending?: string },
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<object> {
    runs += 1;
    await context.manager.query('INSERT INTO orders (item) VALUES ($1)', [item]);
    if (ending === 'decline') throw new HttpException('declined', 402);
    if (ending === 'fail') throw new HttpException('broken', 500);
    if (ending === 'break') await context.manager.query('SELECT 1 / 0').catch(() => undefined);
    return { item, run: runs };
  }
}

describe.each(ADAPTERS)('a handler with transaction: true on %s', (adapter) => {
  let database: TestDatabase;
  let running: RunningApp;
  let dataSource: DataSource;
  let idempotency: IdempotencyService;

  beforeAll(async () => {
    database = await createTestDatabase(`transactional handlers ${adapter}`);
    const migrations = { migrations: [CreateIdempotencyRecords1764000000000], migrationsRun: true };
    running = await startApp({
      adapter,
      controllers: [OrdersController],
      imports: [TypeOrmModule.forRoot({ type: 'postgres', url: database.url, ...migrations })],
      idempotency: { store: typeormStore() },
    });
    dataSource = running.app.get(DataSource);
    idempotency = running.app.get(IdempotencyService);
    await dataSource.query('CREATE TABLE orders (item text NOT NULL)');
  });

  afterAll(async () => {
    await running.close();
    await database.drop();
  });

  beforeEach(() => {
    runs = 0;
  });

  async function order(key: string, body: object): Promise<{ status: number; replayed: boolean; text: string }> {
    const response = await fetch(`${running.url}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(body),
    });
    const replayed = response.headers.get('idempotent-replayed') === 'true';
    return { status: response.status, replayed, text: await response.text() };
  }

  async function orders(item: string): Promise<number> {
    const rows: unknown[] = await dataSource.query('SELECT FROM orders WHERE item = $1', [item]);
    return rows.length;
  }

  const job = (key: string, more: Partial<IdempotencyOperation> = {}): IdempotencyOperation => ({
    ...{ operation: 'job', scope: 'global', key, transaction: true },
    ...more,
  });

  it('writes once, whatever number of requests there are', async () => {
    const first = await order('once', { item: 'book' });
    expect(first).toMatchObject({ status: 201, replayed: false });
    const again = await Promise.all(Array.from({ length: 10 }, () => order('once', { item: 'book' })));
    for (const each of again) expect(each).toEqual({ ...first, replayed: true });
    expect([await orders('book'), runs]).toEqual([1, 1]);
  });

  it('writes once under a storm of first requests', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => order('storm', { item: 'storm' })));
    expect(new Set(answers.map(({ status }) => status)).size).toBeLessThanOrEqual(2);
    expect(answers.filter(({ status, replayed }) => status === 201 && !replayed)).toHaveLength(1);
    expect([await orders('storm'), runs]).toEqual([1, 1]);
  });

  it('keeps what it wrote where its refusal is recorded, and nothing where its failure is released', async () => {
    expect((await order('declined', { item: 'declined', ending: 'decline' })).status).toBe(402);
    expect(await order('declined', { item: 'declined', ending: 'decline' })).toMatchObject({
      status: 402,
      replayed: true,
    });
    expect([await orders('declined'), runs]).toEqual([1, 1]);

    expect((await order('failed', { item: 'failed', ending: 'fail' })).status).toBe(500);
    expect(await orders('failed')).toBe(0);
    expect((await order('failed', { item: 'failed', ending: 'fail' })).status).toBe(500);
    expect([await orders('failed'), runs]).toEqual([0, 3]);
  });

  it('answers no success where the database has ended the transaction under it', async () => {
    const { status } = await order('broken', { item: 'broken', ending: 'break' });
    expect(status).toBe(503);
    expect([await orders('broken'), runs]).toEqual([0, 1]);
    expect((await order('broken', { item: 'broken', ending: 'break' })).status).toBe(503);
    expect([await orders('broken'), runs]).toEqual([0, 2]);
  });

  it('a run that has lost its claim leaves nothing; its successor writes once', async () => {
    let letGo: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (letGo = resolve));
    const options = { lease: 300, maxDuration: 300, afterCrash: 'rerun' } as const;
    const slow = idempotency.run(job('taken over', options), async (context) => {
      await context.manager.query(`INSERT INTO orders (item) VALUES ('taken over')`);
      await gate;
      return 'late';
    });
    await new Promise((resolve) => setTimeout(resolve, 900));
    const second = await idempotency.run(job('taken over', options), async (context) => {
      await context.manager.query(`INSERT INTO orders (item) VALUES ('taken over')`);
      return 'second';
    });
    expect(second).toEqual({ value: 'second', replayed: false });
    letGo();
    expect(await slow).toEqual({ value: 'second', replayed: true });
    expect(await orders('taken over')).toBe(1);
  });

  it('its manager is not there outside of it', async () => {
    let kept: IdempotencyRunContext | undefined;
    await idempotency.run(job('outside'), (context) => {
      kept = context;
      return context.manager.queryRunner?.isTransactionActive;
    });
    expect(() => kept!.manager).toThrow(/transaction: true/);
    await expect(idempotency.run(job('without', { transaction: false }), (context) => context.manager)).rejects.toThrow(
      /transaction: true/,
    );
  });
});
