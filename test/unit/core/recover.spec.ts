import type { ActiveRun, ActiveRunOptions } from '../../../lib/core/active-run.js';
import { currentRun } from '../../../lib/core/run-scope.js';
import { Engine, type Execution, type RunFunction } from '../../../lib/core/engine.js';
import {
  IdempotencyInProgressError,
  IdempotencyOutcomeUnknownError,
  IdempotencyStoreError,
} from '../../../lib/core/errors.js';
import type { RecoverFunction } from '../../../lib/core/policy.js';
import type { RecordView } from '../../../lib/core/record.js';
import { recordKeyOf } from '../../../lib/core/record-key.js';
import { recover } from '../../../lib/core/recover.js';
import { deferred, eventually } from '../support.js';
import { ANSWER, claimRequest, POLICY, RECORD_KEY, startRun, storeWithFaults } from './runs.js';

let run: ActiveRun | undefined;
afterEach(() => run?.end());

/** The second attempt, after a first one that did not say how it ended. */
async function takeOver(
  options: Partial<ActiveRunOptions> = {},
): Promise<{ store: ReturnType<typeof storeWithFaults>; inDoubt: RecordView; run: ActiveRun }> {
  const store = storeWithFaults();
  const first = await startRun(store);
  await store.abandon(first.claim, { began: true });
  first.end();
  const inDoubt = (await store.find(RECORD_KEY))!;
  const { leaseMs = 60_000 } = options;
  run = await startRun(store, options, claimRequest({ takeOver: true, leaseMs }));
  return { store, inDoubt, run };
}

describe('a recover function', () => {
  it('is shown the abandoned record of the run before, and the context of the new one', async () => {
    const { inDoubt, run } = await takeOver();
    let seen: RecordView | undefined;
    await recover(inDoubt, run, (record, context) => {
      seen = record;
      expect(context).toBe(run.context);
      expect(currentRun()).toBe(run.context);
      return 'block';
    });
    expect(seen).toMatchObject({ recordKey: RECORD_KEY, state: 'abandoned', attempt: 1, operation: 'pay' });
    expect(run.context.attempt).toBe(2);
  });

  it('is given what can look up the services of the application', async () => {
    const { inDoubt, run } = await takeOver();
    const provider = { paid: (key: string) => key.startsWith('idem_') };
    const providers = { get: <T>(token: unknown): T => (token === 'provider' ? provider : undefined) as T };
    const ask: RecoverFunction = (_record, context, { get }) =>
      get<typeof provider>('provider').paid(context.downstreamKey('charge')) ? 'rerun' : 'block';
    expect(await recover(inDoubt, run, ask, providers)).toEqual({ kind: 'rerun' });
    // An engine in no application has none; a function that asks for one all the same cannot tell.
    expect(await recover(inDoubt, run, ask)).toMatchObject({ kind: 'unknown' });
  });

  it('says that it completed: its answer is the outcome', async () => {
    const { inDoubt, run } = await takeOver();
    const outcome = await recover(inDoubt, run, async () => ({ completed: { body: { id: 7 }, status: 201 } }));
    expect(outcome).toMatchObject({ kind: 'record', recovered: true, answer: { kept: true, status: 201 } });
    expect(Buffer.from((outcome as { answer: typeof ANSWER }).answer.body).toString()).toBe('{"id":7}');
  });

  it('says that it may run again', async () => {
    const { inDoubt, run } = await takeOver();
    expect(await recover(inDoubt, run, () => 'rerun')).toEqual({ kind: 'rerun' });
  });

  it.each([['block'], [undefined], [null], [true], ['completed'], [{}], [[]], [{ complete: {} }]])(
    'leaves the outcome unknown where it says %j',
    async (said) => {
      const { inDoubt, run } = await takeOver();
      expect(await recover(inDoubt, run, (() => said) as unknown as RecoverFunction)).toMatchObject({
        kind: 'unknown',
        began: false,
      });
    },
  );

  it('leaves the outcome unknown where it throws or rejects, and keeps the cause', async () => {
    const { inDoubt, run } = await takeOver();
    const cause = new Error('the provider does not answer');
    const throwing: RecoverFunction = () => {
      throw cause;
    };
    expect(await recover(inDoubt, run, throwing)).toEqual({ kind: 'unknown', began: false, cause });
    expect(await recover(inDoubt, run, () => Promise.reject(cause))).toEqual({ kind: 'unknown', began: false, cause });
  });

  it('leaves the outcome unknown where it gives an answer that JSON cannot hold', async () => {
    const { inDoubt, run } = await takeOver();
    expect(await recover(inDoubt, run, () => ({ completed: { body: 1n } }))).toMatchObject({ kind: 'unknown' });
  });

  it.each([
    ['retry', /it gave 'retry'/],
    [null, /it gave null/],
    [{ completed: true }, /it gave a value of type object/],
  ])('says in the error what it gave: %j', async (said, message) => {
    const { inDoubt, run } = await takeOver();
    const outcome = await recover(inDoubt, run, (() => said) as unknown as RecoverFunction);
    expect((outcome as { cause: Error }).cause.message).toMatch(message);
    expect((outcome as { cause: Error }).cause.message).toMatch(/completed.*rerun.*block/);
  });

  it('is not waited for once its claim is lost', async () => {
    const { store, inDoubt, run } = await takeOver({ leaseMs: 150, maxDurationMs: 150 });
    const outcome = await recover(inDoubt, run, () => new Promise(() => undefined));
    expect(outcome).toMatchObject({ kind: 'unknown', cause: { name: 'IdempotencyClaimLostError' } });
    expect(await store.find(RECORD_KEY)).toMatchObject({ state: 'abandoned' });
  });

  it('is not asked about a record that another attempt has had since', async () => {
    const { inDoubt, run } = await takeOver();
    let asked = 0;
    const ask: RecoverFunction = () => (asked++, 'rerun');
    expect(await recover({ ...inDoubt, attempt: 0 }, run, ask)).toMatchObject({ kind: 'unknown', began: false });
    expect(asked).toBe(0);
  });
});

describe('the engine with a recover function', () => {
  const name = { scope: 's', operation: 'pay', key: 'k' };
  const recordKey = recordKeyOf(name);

  async function crashed(): Promise<{
    store: ReturnType<typeof storeWithFaults>;
    execute: (ask: RecoverFunction, run?: RunFunction<void>) => Promise<Execution<void>>;
  }> {
    const store = storeWithFaults();
    const first = await startRun(store, {}, claimRequest({ recordKey }));
    await store.abandon(first.claim, { began: true });
    first.end();
    const engine = new Engine(store, false);
    const neverRuns: RunFunction<void> = () => {
      throw new Error('it ran');
    };
    return {
      store,
      execute: (afterCrash, run = neverRuns) =>
        engine.execute<void>({ ...name, fingerprint: 'f', policy: { ...POLICY, afterCrash } }, run),
    };
  }

  it('is shown when the run in doubt was claimed, not when the question was', async () => {
    const { store, execute } = await crashed();
    const left = (await store.find(recordKey))!;
    await new Promise((resolve) => setTimeout(resolve, 20));
    let seen: RecordView | undefined;
    const ask: RecoverFunction = (record) => {
      seen = record;
      return 'block';
    };
    await expect(execute(ask)).rejects.toThrow(IdempotencyOutcomeUnknownError);
    expect(seen).toEqual(left);
  });

  it('is not asked where the store cannot give it the claim', async () => {
    const { store, execute } = await crashed();
    let asked = 0;
    store.on('claim').fail(2);
    await expect(execute(() => (asked++, 'rerun'))).rejects.toThrow(IdempotencyStoreError);
    expect(asked).toBe(0);
    expect(await store.find(recordKey)).toMatchObject({ state: 'abandoned', attempt: 1 });
  });

  it('replays what it says, to this request and to all that follow, without running', async () => {
    const { execute } = await crashed();
    let asked = 0;
    const ask: RecoverFunction = () => (asked++, { completed: { body: 'paid' } });
    for (let i = 0; i < 3; i++) {
      const execution = await execute(ask);
      expect(execution).toMatchObject({ kind: 'replay', answer: { kept: true } });
    }
    expect(asked).toBe(1);
  });

  it('runs again where it says so, as the second attempt', async () => {
    const { execute } = await crashed();
    const attempts: number[] = [];
    const execution = await execute(
      () => 'rerun',
      async ({ context }) => (attempts.push(context.attempt), { kind: 'record', answer: ANSWER }),
    );
    expect(execution.kind).toBe('ran');
    expect(attempts).toEqual([2]);
  });

  it('answers outcome unknown where it cannot tell, asks at the next request, and counts no attempt', async () => {
    const { store, execute } = await crashed();
    let asked = 0;
    const ask: RecoverFunction = () => (asked++, 'block');
    for (let i = 1; i <= 3; i++) {
      await expect(execute(ask)).rejects.toThrow(IdempotencyOutcomeUnknownError);
      expect(asked).toBe(i);
      expect(await store.find(recordKey)).toMatchObject({ state: 'abandoned', attempt: 1 });
    }
  });

  it('is asked by one request at a time: the others see one in progress', async () => {
    const { execute } = await crashed();
    const gate = deferred();
    let asked = 0;
    const ask: RecoverFunction = async () => {
      asked += 1;
      await gate.promise;
      return { completed: { body: 'paid' } };
    };
    const first = execute(ask);
    await eventually(() => asked === 1, 'the question');
    const others = await Promise.allSettled(Array.from({ length: 20 }, () => execute(ask)));
    for (const other of others) {
      expect(other.status === 'rejected' && other.reason).toBeInstanceOf(IdempotencyInProgressError);
    }
    gate.resolve();
    expect((await first).kind).toBe('replay');
    expect(asked).toBe(1);
  });
});
