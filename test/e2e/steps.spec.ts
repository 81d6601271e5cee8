import { Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  IdempotencyModule,
  IdempotencyService,
  memoryStore,
  type IdempotencyOperation,
  type IdempotencyRunContext,
  type IdempotencyStore,
} from 'nestjs-idempotency';
import { faultStore } from 'nestjs-idempotency/testing';
import fc from 'fast-check';

let app: INestApplicationContext;
let idempotency: IdempotencyService;
let calls: string[] = [];

function jobsOver(store: IdempotencyStore): Promise<INestApplicationContext> {
  @Module({ imports: [IdempotencyModule.forRoot({ store, scope: 'global', maxRecordBytes: 10_000 })] })
  class JobsModule {}
  return NestFactory.createApplicationContext(JobsModule, { logger: false });
}

beforeAll(async () => {
  app = await jobsOver(memoryStore());
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
    ['a bigint deep inside', (c) => c.step('deep', () => ({ a: [{ b: 1n }] })), /written as JSON/],
    ['a function', (c) => c.step('function', () => () => 1), /written as JSON/],
    ['a symbol', (c) => c.step('symbol', () => Symbol('s')), /written as JSON/],
    [
      'a toJSON that throws',
      (c) =>
        c.step('throws', () => ({
          toJSON: () => {
            throw new Error('no');
          },
        })),
      /written as JSON/,
    ],
    ['a name with a slash', (c) => c.step('a/b', () => 1), /without slashes/],
    ['a name of 201 characters', (c) => c.step('x'.repeat(201), () => 1), /1 to 200 characters/],
    ['half a surrogate pair as a name', (c) => c.step('\ud83d', () => 1), /name must be/],
    ['a name that is no text', (c) => c.step(7 as unknown as string, () => 1), /name must be/],
    ['a result that is too large', (c) => c.step('large', () => 'x'.repeat(10_001)), /maxRecordBytes allows 10000/],
  ])('%s is refused with an error that says so', async (name, run, message) => {
    await expect(idempotency.run(job(`bad ${name}`), run)).rejects.toThrow(message);
    // The claim is released: a corrected run may use the key.
    const { value } = await idempotency.run(job(`bad ${name}`), (context) => context.attempt);
    expect(value).toBe(2);
  });

  it('what a step gave is in the error, where it was paid for and cannot be recorded', async () => {
    const large = 'x'.repeat(10_001);
    const results = [1n, large, () => 1];
    for (const [index, result] of results.entries()) {
      const failed = idempotency.run(job(`paid in vain ${index}`), (context) => context.step('paid', () => result));
      await expect(failed).rejects.toMatchObject({ name: 'IdempotencyStepError', result });
    }
    // The largest that is allowed: JSON adds two quotes.
    const largest = 'x'.repeat(9_998);
    expect(
      (await idempotency.run(job('largest'), async (c) => (await c.step('paid', () => largest)).length)).value,
    ).toBe(9_998);
  });

  it('any other name is a name', async () => {
    const names = [
      'x'.repeat(200),
      ' ',
      '\u0000',
      'a\nb',
      '日本語',
      '😀',
      '\u202e',
      '__proto__',
      'constructor',
      'é',
      'e\u0301',
    ];
    const run = (fail: boolean) =>
      idempotency.run(job('names'), async (context) => {
        const results: string[] = [];
        for (const name of names) results.push(await context.step(name, () => paid(name, `of ${name}`)));
        if (fail) throw new Error('cut');
        return results;
      });
    await expect(run(true)).rejects.toThrow('cut');
    expect((await run(false)).value).toEqual(names.map((name) => `of ${name}`));
    expect(calls).toEqual(names);
  });

  it('the first run gets exactly what a later one gets', async () => {
    const values = fc.array(fc.anything({ withDate: true, withMap: true, withSet: true, withNullPrototype: true }), {
      maxLength: 5,
    });
    let number = 0;
    await fc.assert(
      fc.asyncProperty(values, async (given) => {
        number += 1;
        const seen: unknown[][] = [];
        const run = (fail: boolean) =>
          idempotency.run(job(`property ${number}`), async (context) => {
            const results: unknown[] = [];
            for (const [i, value] of given.entries()) results.push(await context.step(`step ${i}`, () => value));
            seen.push(results);
            if (fail) throw new Error('cut');
          });
        await expect(run(true)).rejects.toThrow('cut');
        await run(false);
        expect(seen[1]).toStrictEqual(seen[0]);
      }),
      { numRuns: 100 },
    );
  });

  it('a step after the end of its run throws, and does not run', async () => {
    let kept!: IdempotencyRunContext;
    const keep = (context: IdempotencyRunContext) => void (kept = context);
    await idempotency.run(job('over'), keep);
    await expect(kept.step('late', () => paid('late', 1))).rejects.toThrow(
      /'late' was called after the end of its run/,
    );
    await expect(
      idempotency.run(job('over by an error'), (context) => {
        keep(context);
        throw new Error('failed');
      }),
    ).rejects.toThrow('failed');
    await expect(kept.step('late', () => paid('late', 1))).rejects.toThrow(/after the end/);
    expect(calls).toEqual([]);
  });

  it('a run within a step of another run has steps of its own', async () => {
    const inner = () =>
      idempotency.run(job('inner'), async (context) => {
        const value = await context.step('embed', (step) => paid(step.name, 1));
        if (context.attempt === 1) throw new Error('cut');
        return value;
      });
    await expect(idempotency.run(job('outer'), (context) => context.step('wrap', inner))).rejects.toThrow('cut');
    // The second attempt comes from elsewhere, and finds the same step.
    expect((await inner()).value).toBe(1);
    expect(calls).toEqual(['embed']);
  });

  it('a step whose result the store cannot take yet is tried again while the lease lives', async () => {
    const faults = faultStore(memoryStore());
    const app = await jobsOver(faults);
    faults.on('save').fail(1);
    faults.on('save').loseReply(2);
    const { value } = await app
      .get(IdempotencyService)
      .run(job('patience'), async (context) => [
        await context.step('one', () => paid('one', 1)),
        await context.step('two', () => paid('two', 2)),
      ]);
    expect([value, calls, faults.count('save')]).toEqual([[1, 2], ['one', 'two'], 4]);
    await app.close();
  });

  it('finished steps that cannot be read are not run again: the attempt fails, and the next one finds them', async () => {
    const faults = faultStore(memoryStore());
    const app = await jobsOver(faults);
    const run = (fail: boolean) =>
      app.get(IdempotencyService).run(job('unreadable'), async (context) => {
        const value = await context.step('one', () => paid('one', 1));
        if (fail) throw new Error('cut');
        return value;
      });
    await expect(run(true)).rejects.toThrow('cut');
    faults.on('load').fail(1);
    await expect(run(false)).rejects.toMatchObject({ code: 'idempotency_store_unavailable' });
    expect((await run(false)).value).toBe(1);
    expect(calls).toEqual(['one']);
    await app.close();
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
