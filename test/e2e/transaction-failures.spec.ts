import { Body, Controller, Header, Post, Res, Sse, StreamableFile } from '@nestjs/common';
import { Readable } from 'node:stream';
import type { ServerResponse } from 'node:http';
import { of } from 'rxjs';
import { DataSource, type EntityManager } from 'typeorm';
import {
  Idempotent,
  IdempotencyContext,
  IdempotencyService,
  IdempotencyStoreError,
  memoryStore,
  type IdempotencyRunContext,
} from 'nestjs-idempotency';
import { CreateIdempotencyRecords1764000000000, idempotencyEntities, typeormStore } from 'nestjs-idempotency/typeorm';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { startApp, type RunningApp } from './support/app.js';
import { eventually, send, type Answer } from './support/http-client.js';

type Work = (context: IdempotencyRunContext) => unknown;

/** What the handler does in the test at hand. */
let work: Work = () => undefined;

@Controller('works')
@Idempotent({ transaction: true })
class WorksController {
  @Post() run(@IdempotencyContext() context: IdempotencyRunContext) {
    return work(context);
  }

  @Post('file')
  @Header('content-type', 'text/plain')
  async file(@Body() { pieces }: { pieces: number }, @IdempotencyContext() context: IdempotencyRunContext) {
    await write(context, 'file');
    return new StreamableFile(Readable.from(Array.from({ length: pieces }, () => Buffer.alloc(32 * 1024, 'x'))));
  }

  @Post('raw')
  async raw(@IdempotencyContext() context: IdempotencyRunContext, @Res() response: ServerResponse) {
    await write(context, 'raw');
    response.setHeader('content-type', 'text/plain');
    for (const piece of ['one ', 'two ', 'three']) {
      response.write(piece);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    response.end();
  }
}

const write = ({ manager }: { manager: Pick<EntityManager, 'query'> }, item: string): Promise<unknown> =>
  manager.query('INSERT INTO things (item) VALUES ($1)', [item]);

let database: TestDatabase;
let dataSource: DataSource;
let running: RunningApp;

beforeAll(async () => {
  database = await createTestDatabase('transaction failures');
  dataSource = await connect(10);
  await dataSource.query('CREATE TABLE things (item text)');
  await dataSource.query('CREATE TABLE counters (name text PRIMARY KEY, n int NOT NULL)');
  await dataSource.query(
    `CREATE TABLE parts (id int PRIMARY KEY, of int REFERENCES parts DEFERRABLE INITIALLY DEFERRED)`,
  );
  running = await startWith(dataSource);
});
afterAll(async () => {
  await running.close();
  await dataSource.destroy();
  await database.drop();
});

async function connect(poolSize: number): Promise<DataSource> {
  const options = { entities: idempotencyEntities(), migrations: [CreateIdempotencyRecords1764000000000] };
  return new DataSource({
    type: 'postgres',
    url: database.url,
    migrationsRun: true,
    poolSize,
    ...options,
  }).initialize();
}

function startWith(source: DataSource): Promise<RunningApp> {
  return startApp({
    adapter: 'express',
    controllers: [WorksController],
    idempotency: { store: typeormStore({ dataSource: source }), lease: '30s', replayCache: false },
  });
}

const post = (key: string, path = 'works', body: object = {}, app = running): Promise<Answer> =>
  send(`${app.url}/${path}`, { headers: { 'idempotency-key': key }, body });

async function things(item: string): Promise<number> {
  return (await dataSource.query<unknown[]>('SELECT FROM things WHERE item = $1', [item])).length;
}

const recordOf = (key: string) =>
  running.app.get(IdempotencyService).find({ operation: 'POST /works', scope: 'global', key });

/** Two runs that each read what the other writes: one of them cannot be put into an order, or waits for ever. */
function meetingTwice(): () => Promise<void> {
  let arrived = 0;
  let open: () => void;
  const both = new Promise<void>((resolve) => (open = resolve));
  return () => {
    arrived += 1;
    if (arrived === 2) open();
    return arrived > 2 ? Promise.resolve() : both;
  };
}

describe('what the database undoes', () => {
  const isUndone = (answer: Answer) => answer.status === 503;

  it.each([
    [
      'a serialization failure (40001)',
      (meet: () => Promise<void>) =>
        async ({ manager, key }: IdempotencyRunContext) => {
          await manager.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE');
          await manager.query('SELECT sum(n) FROM counters');
          await meet();
          await manager.query('INSERT INTO counters VALUES ($1, 1)', [key]);
          await write({ manager }, key);
          return { done: key };
        },
    ],
    [
      'a deadlock (40P01)',
      (meet: () => Promise<void>) =>
        async ({ manager, key }: IdempotencyRunContext) => {
          const rows = key.endsWith('a') ? ['left', 'right'] : ['right', 'left'];
          await manager.query('UPDATE counters SET n = n + 1 WHERE name = $1', [rows[0]]);
          await meet();
          await manager.query('UPDATE counters SET n = n + 1 WHERE name = $1', [rows[1]]);
          await write({ manager }, key);
          return { done: key };
        },
    ],
  ])('%s: 503, nothing is written, the claim is released, and the retry runs', async (name, make) => {
    await dataSource.query(`DELETE FROM counters`);
    await dataSource.query(`INSERT INTO counters VALUES ('left', 0), ('right', 0)`);
    work = make(meetingTwice());
    const keys = [`${name.length}-a`, `${name.length}-b`];
    const answers = await Promise.all(keys.map((key) => post(key)));
    expect(answers.filter(isUndone)).toHaveLength(1);
    const undone = answers.findIndex(isUndone);
    expect(answers[undone]!.json()).toMatchObject({ code: 'idempotency_store_unavailable' });
    expect(answers[undone]!.headers['retry-after']).toMatch(/^\d+$/);
    expect(await recordOf(keys[undone]!)).toMatchObject({ state: 'released', attempt: 1 });
    expect(await Promise.all(keys.map(things))).toEqual(keys.map((_, index) => (index === undone ? 0 : 1)));
    const retry = await post(keys[undone]!);
    expect([retry.status, retry.json()['done']]).toEqual([201, keys[undone]]);
    expect(await things(keys[undone]!)).toBe(1);
  });

  it('the same in run() of the service: IdempotencyStoreError, whose cause is what the database said', async () => {
    const idempotency = running.app.get(IdempotencyService);
    await dataSource.query(`INSERT INTO counters VALUES ('service', 0)`);
    const meet = meetingTwice();
    const run = (key: string) =>
      idempotency.run({ operation: 'job', scope: 'acme', key, transaction: true }, async ({ manager }) => {
        await manager.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
        await manager.query(`SELECT n FROM counters WHERE name = 'service'`);
        await meet();
        await manager.query(`UPDATE counters SET n = n + 1 WHERE name = 'service'`);
        return key;
      });
    const ended = await Promise.allSettled([run('a'), run('b')]);
    const failed = ended.find((one) => one.status === 'rejected')!;
    expect(failed.reason).toBeInstanceOf(IdempotencyStoreError);
    expect((failed.reason as Error).cause).toMatchObject({ code: '40001' });
    for (const key of ['a', 'b']) expect((await run(key)).value).toBe(key);
    expect(await dataSource.query(`SELECT n FROM counters WHERE name = 'service'`)).toEqual([{ n: 2 }]);
  });

  it('a deferred constraint that fails at the commit: 503, nothing is written, and the retry runs', async () => {
    let of = 404;
    work = async ({ manager }) => {
      await write({ manager }, 'deferred');
      await manager.query('INSERT INTO parts VALUES (1, $1)', [of]);
      return { stored: true };
    };
    const refused = await post('deferred');
    expect(refused.json()).toMatchObject({ status: 503, code: 'idempotency_store_unavailable' });
    expect([await things('deferred'), (await recordOf('deferred'))?.state]).toEqual([0, 'released']);
    of = 1;
    expect((await post('deferred')).status).toBe(201);
    expect([await things('deferred'), (await recordOf('deferred'))?.attempt]).toEqual([1, 2]);
  });

  it('a commit that takes longer than the deadline of the store is waited for: the answer tells what became of it', async () => {
    await dataSource.query(`CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$`);
    await dataSource.query(`CREATE TABLE slow (item text)`);
    await dataSource.query(`CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION dawdle()`);
    const hasty = await startApp({
      adapter: 'express',
      controllers: [WorksController],
      idempotency: { store: typeormStore({ dataSource, deadline: 500 }), replayCache: false },
    });
    work = async ({ manager }) => {
      await write({ manager }, 'slow');
      await manager.query(`INSERT INTO slow VALUES ('one')`);
      return { stored: true };
    };
    const first = await post('slow', 'works', {}, hasty);
    expect([first.status, first.text, await things('slow')]).toEqual([201, '{"stored":true}', 1]);
    expect((await post('slow', 'works', {}, hasty)).headers['idempotent-replayed']).toBe('true');
    await hasty.close();
  });

  it('an error that the handler has caught: 503 as well, for what it writes afterwards is not written either', async () => {
    work = async ({ manager }) => {
      await write({ manager }, 'caught');
      await manager.query('SELECT 1 / 0').catch(() => undefined);
      await expect(write({ manager }, 'caught')).rejects.toMatchObject({ code: '25P02' });
      return { stored: true };
    };
    expect((await post('caught')).status).toBe(503);
    expect([await things('caught'), (await recordOf('caught'))?.state]).toEqual([0, 'released']);
  });

  it('an error that the handler passes on is its own, as without a transaction: 500, released', async () => {
    work = async ({ manager }) => {
      await write({ manager }, 'own');
      await manager.query('SELECT 1 / 0');
    };
    expect((await post('own')).status).toBe(500);
    expect([await things('own'), (await recordOf('own'))?.state]).toEqual([0, 'released']);
  });
});

describe('within the transaction', () => {
  it('a nested one is a savepoint: what it undoes is undone, and the rest commits', async () => {
    work = async ({ manager }) => {
      await write({ manager }, 'outer');
      await manager.transaction((inner) => write({ manager: inner }, 'inner'));
      const undone = manager.transaction(async (inner) => {
        await write({ manager: inner }, 'undone');
        await inner.query('SELECT 1 / 0');
      });
      await expect(undone).rejects.toThrow(/division by zero/);
      return 'done';
    };
    expect((await post('nested')).status).toBe(201);
    expect([await things('outer'), await things('inner'), await things('undone')]).toEqual([1, 1, 0]);
  });

  it('its manager cannot be used after the end, neither from the context nor kept', async () => {
    let context!: IdempotencyRunContext;
    let kept!: EntityManager;
    work = async (given) => {
      context = given;
      kept = given.manager as unknown as EntityManager;
      await write(given, 'kept');
    };
    await post('kept');
    expect(() => context.manager).toThrow(/only while the handler runs: after its end the transaction is over/);
    await expect(kept.query('SELECT 1')).rejects.toThrow(/already released/);
    expect(await things('kept')).toBe(1);
  });

  it('its manager is refused in a step: the step would stay recorded where its write is rolled back', async () => {
    const seen: string[] = [];
    work = async (context) => {
      const asked = await context.step('ask', () => {
        seen.push('asked');
        return 42;
      });
      await context.manager.query('INSERT INTO things (item) VALUES ($1)', [`asked ${asked}`]);
      if (seen.length < 2) {
        seen.push('refused');
        await context.step('write', () => context.manager.query('SELECT 1'));
      }
      return { asked };
    };
    const refused = await post('steps');
    expect([refused.status, await things('asked 42')]).toEqual([500, 0]);
    expect((await post('steps')).json()).toEqual({ asked: 42 });
    // The step is recorded outside of the transaction, so it was not run again; the write was.
    expect([seen, await things('asked 42')]).toEqual([['asked', 'refused'], 1]);
  });

  it('duplicates get 409 within a moment while it holds locks, and never wait for a row', async () => {
    let go!: () => void;
    const gate = new Promise<void>((resolve) => (go = resolve));
    let runs = 0;
    work = async ({ manager }) => {
      runs += 1;
      await write({ manager }, 'locked');
      await gate;
      return 'done';
    };
    const first = post('locked');
    await eventually(() => runs === 1, 'the handler');
    const duplicates = await Promise.all(Array.from({ length: 20 }, () => post('locked')));
    for (const { status } of duplicates) expect(status).toBe(409);
    const { rows } = await waiting();
    expect(rows).toBe(0);
    go();
    expect((await first).status).toBe(201);
    expect([runs, await things('locked')]).toEqual([1, 1]);
  });

  async function waiting(): Promise<{ rows: number }> {
    const [found] = await dataSource.query<{ rows: number }[]>(
      `SELECT count(*)::int AS rows FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    return found!;
  }
});

describe('answers that are written in pieces', () => {
  it.each([
    ['works/file', { pieces: 4 }, 4 * 32 * 1024],
    ['works/raw', {}, 'one two three'.length],
  ])('%s is held until the commit, and replayed whole', async (path, body, bytes) => {
    const first = await post('pieces', path, body);
    expect([first.status, first.body.byteLength]).toEqual([201, bytes]);
    expect(first.headers['idempotency-stream']).toBeUndefined();
    const again = await post('pieces', path, body);
    expect(again.body.equals(first.body)).toBe(true);
    expect(again.headers['idempotent-replayed']).toBe('true');
    expect(await things(path.slice('works/'.length))).toBe(1);
  });

  it('server-sent events are refused at boot, by the name of the handler', async () => {
    @Controller()
    @Idempotent({ transaction: true })
    class EventsController {
      @Sse('events') events() {
        return of({ data: 'one' });
      }
    }
    await expect(
      startApp({ adapter: 'express', controllers: [EventsController], idempotency: { store: memoryStore() } }),
    ).rejects.toThrow(/EventsController\.events: server-sent events .* Write transaction: false on the handler/);
  });
});

describe('a DataSource with one connection', () => {
  it('runs one handler after the other: claims and answers have connections of their own', async () => {
    const narrow = await connect(1);
    const app = await startWith(narrow);
    work = async ({ manager, key }) => {
      await write({ manager }, `narrow ${key}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      return key;
    };
    const keys = Array.from({ length: 20 }, (_, index) => `n-${index}`);
    const answers = await Promise.all(
      keys.flatMap((key) => [post(key, 'works', {}, app), post(key, 'works', {}, app)]),
    );
    for (const { status } of answers) expect([201, 409]).toContain(status);
    for (const key of keys) {
      expect((await post(key, 'works', {}, app)).status).toBe(201);
      expect(await things(`narrow ${key}`)).toBe(1);
    }
    await app.close();
    await narrow.destroy();
  });

  it('that a handler holds for too long: 503 within the deadline, the handler did not run, and the claim is given back', async () => {
    const narrow = await connect(1);
    const app = await startApp({
      adapter: 'express',
      controllers: [WorksController],
      idempotency: { store: typeormStore({ dataSource: narrow, deadline: 500 }), replayCache: false },
    });
    let go!: () => void;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const began: string[] = [];
    work = async ({ key }) => {
      began.push(key);
      if (key === 'long') await gate;
      return key;
    };
    const long = post('long', 'works', {}, app);
    await eventually(() => began.length === 1, 'the handler');
    expect((await post('crowded', 'works', {}, app)).json()).toMatchObject({ status: 503 });
    expect(began).toEqual(['long']);
    go();
    expect((await long).status).toBe(201);
    const retry = await post('crowded', 'works', {}, app);
    expect([retry.status, began]).toEqual([201, ['long', 'crowded']]);
    await app.close();
    await narrow.destroy();
  });
});
