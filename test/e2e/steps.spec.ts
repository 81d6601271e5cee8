import { Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  IdempotencyModule,
  IdempotencyService,
  memoryStore,
  type IdempotencyOperation,
  type IdempotencyRunContext,
} from 'nestjs-idempotency';

let app: INestApplicationContext;
let idempotency: IdempotencyService;
let calls: string[] = [];

beforeAll(async () => {
  @Module({ imports: [IdempotencyModule.forRoot({ store: memoryStore(), scope: 'global', maxRecordBytes: 10_000 })] })
  class JobsModule {}
  app = await NestFactory.createApplicationContext(JobsModule, { logger: false });
  idempotency = app.get(IdempotencyService);
});
afterAll(() => app.close());
beforeEach(() => {
  calls = [];
});

const job = (key: string, more: Partial<IdempotencyOperation> = {}): IdempotencyOperation => ({
  operation: 'pipeline',
  scope: 'acme',
  key,
  ...more,
});

/** A paid call, on the bill as soon as it is made. */
async function paid<T>(name: string, result: T): Promise<T> {
  calls.push(name);
  await new Promise((resolve) => setTimeout(resolve, 1));
  return result;
}

const NAMES = ['split', 'embed', 'store', 'summarise', 'notify'];

describe('steps of a run', () => {
  it.each(NAMES.map((_, i) => i))(
    'a pipeline that fails after %d steps does not pay for them again',
    async (failsAfter) => {
      const pipeline = async (context: IdempotencyRunContext): Promise<string[]> => {
        const results: string[] = [];
        for (const [i, name] of NAMES.entries()) {
          if (context.attempt === 1 && i === failsAfter) throw new Error('cut');
          results.push(await context.step(name, () => paid(name, `${name} done`)));
        }
        return results;
      };
      const key = `fails-${failsAfter}`;
      await expect(idempotency.run(job(key), pipeline)).rejects.toThrow('cut');
      const { value, replayed } = await idempotency.run(job(key), pipeline);
      expect([value, replayed]).toEqual([NAMES.map((name) => `${name} done`), false]);
      expect(calls).toEqual(NAMES);
      expect((await idempotency.run(job(key), pipeline)).replayed).toBe(true);
      expect(calls).toEqual(NAMES);
    },
  );

  it('a step that throws is not recorded; its downstream key is the same in every attempt', async () => {
    const keys: string[] = [];
    const run = (fail: boolean) =>
      idempotency.run(job('throws'), (context) =>
        context.step('charge', async (step) => {
          keys.push(step.downstreamKey);
          await paid('charge', 1);
          if (fail) throw new Error('declined');
          return 'charged';
        }),
      );
    await expect(run(true)).rejects.toThrow('declined');
    expect((await run(false)).value).toBe('charged');
    expect(calls).toHaveLength(2);
    expect(keys[0]).toBe(keys[1]);
  });

  it('steps nest and run in parallel', async () => {
    const run = (fail: boolean) =>
      idempotency.run(job('nested'), async (context) => {
        const parts = await Promise.all(
          [1, 2, 3].map((n) =>
            context.step(`part ${n}`, async (step) => {
              const text = await context.step('read', () => paid(`${step.name}/read`, n));
              return paid(step.name, text * 10);
            }),
          ),
        );
        if (fail) throw new Error('cut');
        return parts;
      });
    await expect(run(true)).rejects.toThrow('cut');
    expect((await run(false)).value).toEqual([10, 20, 30]);
    expect(calls).toHaveLength(6);
  });

  it('deep in the call chain the run is there by current()', async () => {
    const embed = () => idempotency.current()!.step('embed', () => paid('embed', [1, 2]));
    expect((await idempotency.run(job('deep'), () => embed())).value).toEqual([1, 2]);
    expect(idempotency.current()).toBeUndefined();
  });

  it.each<[string, (context: IdempotencyRunContext) => Promise<unknown>, RegExp]>([
    ['the same name twice', async (c) => [await c.step('a', () => 1), await c.step('a', () => 2)], /called twice/],
    ['the same name in parallel', (c) => Promise.all([c.step('a', () => 1), c.step('a', () => 2)]), /called twice/],
    ['an empty name', (c) => c.step('', () => 1), /name must be/],
    [
      'a cycle',
      (c) =>
        c.step('cycle', () => {
          const a: unknown[] = [];
          a.push(a);
          return a;
        }),
      /written as JSON/,
    ],
    ['a bigint', (c) => c.step('big', () => 1n), /written as JSON/],
    ['a result that is too large', (c) => c.step('large', () => 'x'.repeat(10_001)), /maxRecordBytes allows 10000/],
  ])('%s is refused with an error that says so', async (name, run, message) => {
    await expect(idempotency.run(job(`bad ${name}`), run)).rejects.toThrow(message);
  });

  it('undefined, null, dates as texts: a step gives what a later attempt will get', async () => {
    const run = (fail: boolean) =>
      idempotency.run(job('values'), async (context) => {
        const values = [
          await context.step('undefined', () => undefined),
          await context.step('null', () => null),
          await context.step('date', () => new Date(0)),
        ];
        if (fail) throw Object.assign(new Error('cut'), { values });
        return values.map(String);
      });
    const first = await run(true).catch((error: { values: unknown[] }) => error.values);
    expect(first).toEqual([undefined, null, '1970-01-01T00:00:00.000Z']);
    expect((await run(false)).value).toEqual(['undefined', 'null', '1970-01-01T00:00:00.000Z']);
  });

  it('a step whose claim was lost throws and is not recorded', async () => {
    const ran = idempotency.run(job('lost', { lease: 150, afterCrash: 'rerun' }), async (context) => {
      await context.step('one', () => paid('one', 1));
      // The process stands still for longer than its lease.
      const until = performance.now() + 200;
      while (performance.now() < until);
      return context.step('two', () => paid('two', 2));
    });
    await expect(ran).rejects.toMatchObject({ code: 'idempotency_outcome_unknown' });
    const again = await idempotency.run(job('lost', { lease: 150, afterCrash: 'rerun' }), async (context) => [
      context.attempt,
      await context.step('one', () => paid('one', 1)),
    ]);
    expect(again.value).toEqual([2, 1]);
    expect(calls.filter((name) => name === 'one')).toHaveLength(1);
  });

  it('another payload under a released key begins anew', async () => {
    const run = (payload: number, fail: boolean) =>
      idempotency.run(job('payload', { payload }), async (context) => {
        const value = await context.step('one', () => paid('one', payload));
        if (fail) throw new Error('cut');
        return [context.attempt, value];
      });
    await expect(run(1, true)).rejects.toThrow('cut');
    expect((await run(2, false)).value).toEqual([1, 2]);
  });
});
