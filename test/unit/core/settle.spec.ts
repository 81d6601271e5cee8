import type { ActiveRun } from '../../../lib/core/active-run.js';
import { settleRun, undoClaim } from '../../../lib/core/settle.js';
import { eventually } from '../support.js';
import { ANSWER, claimRequest, RECORD_KEY, startRun, storeWithFaults } from './runs.js';

const RECORD = { kind: 'record', answer: ANSWER } as const;
const RELEASE = { kind: 'release', began: true } as const;
const UNKNOWN = { kind: 'unknown', began: true } as const;
const KEPT_A_MINUTE = { retentionMs: 60_000, afterCrash: 'block' } as const;

let run: ActiveRun | undefined;
afterEach(() => run?.end());

describe('settling a run', () => {
  it.each([
    [RECORD, 'completed'],
    [RELEASE, 'released'],
    [UNKNOWN, 'abandoned'],
  ] as const)('%j leaves the record %s', async (outcome, state) => {
    const store = storeWithFaults();
    run = await startRun(store);
    expect(await settleRun(store, run, outcome, KEPT_A_MINUTE)).toBe('written');
    expect((await store.find(RECORD_KEY))?.state).toBe(state);
  });

  it('leaves no record after a release by which nothing had begun', async () => {
    const store = storeWithFaults();
    run = await startRun(store);
    expect(await settleRun(store, run, { kind: 'release', began: false }, KEPT_A_MINUTE)).toBe('written');
    expect(await store.find(RECORD_KEY)).toBeUndefined();
  });

  it('keeps the record for the retention that it is given, from the completion on', async () => {
    const store = storeWithFaults();
    run = await startRun(store);
    await settleRun(store, run, RECORD, { retentionMs: 1_234_000, afterCrash: 'block' });
    const { completedAt, expiresAt } = (await store.find(RECORD_KEY))!;
    expect(expiresAt!.getTime() - completedAt!.getTime()).toBe(1_234_000);
  });

  it.each([
    [RECORD, 'complete', 'completed'],
    [UNKNOWN, 'abandon', 'abandoned'],
  ] as const)('tries to write %j again until the store is back', async (outcome, method, state) => {
    const store = storeWithFaults();
    run = await startRun(store);
    store.on(method).fail();
    let settled: string | undefined;
    const settling = settleRun(store, run, outcome, KEPT_A_MINUTE).then((result) => (settled = result));
    await eventually(() => store.count(method) >= 3, 'three attempts');
    expect(settled).toBeUndefined();
    expect((await store.find(RECORD_KEY))?.state).toBe('in_progress');
    store.heal();
    expect(await settling).toBe('written');
    expect((await store.find(RECORD_KEY))?.state).toBe(state);
  });

  it('renews the lease while it tries, so that the answer is not lost to a long outage of one call', async () => {
    const store = storeWithFaults();
    run = await startRun(store, { leaseMs: 600 });
    const startedAt = performance.now();
    store.on('complete').fail();
    const settling = settleRun(store, run, RECORD, KEPT_A_MINUTE);
    await eventually(() => performance.now() - startedAt > 1_500, 'two leases and a half');
    store.heal();
    expect(await settling).toBe('written');
  });

  it('takes a write for written whose reply was lost', async () => {
    const store = storeWithFaults();
    run = await startRun(store);
    store.on('complete').loseReply(1);
    expect(await settleRun(store, run, RECORD, KEPT_A_MINUTE)).toBe('written');
    expect(store.count('complete')).toBe(2);
    expect((await store.find(RECORD_KEY))?.answer).toMatchObject({ status: 200 });
  });

  it('gives up when the lease is over: it says lost, and no sooner', async () => {
    const store = storeWithFaults();
    const startedAt = performance.now();
    run = await startRun(store, { leaseMs: 150 });
    store.on('complete').fail();
    store.on('renew').fail();
    expect(await settleRun(store, run, RECORD, KEPT_A_MINUTE)).toBe('lost');
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(150);
  });

  it('says lost at once where the store says so, and does not overwrite the record', async () => {
    const store = storeWithFaults();
    run = await startRun(store);
    await store.abandon(run.claim, { began: true });
    await store.resolve(RECORD_KEY, { kind: 'completed', answer: { ...ANSWER, status: 201 } }, 60_000);
    expect(await settleRun(store, run, RECORD, KEPT_A_MINUTE)).toBe('lost');
    expect(store.count('complete')).toBe(1);
    expect((await store.find(RECORD_KEY))?.answer).toMatchObject({ status: 201 });
  });

  it('lets an error answer go at once, and releases in the background when the store is back', async () => {
    const store = storeWithFaults();
    run = await startRun(store);
    store.on('release').fail();
    expect(await settleRun(store, run, RELEASE, KEPT_A_MINUTE)).toBe('written');
    run.end();
    expect((await store.find(RECORD_KEY))?.state).toBe('in_progress');
    await eventually(() => store.count('release') >= 3, 'attempts in the background');
    store.heal();
    await eventually(async () => (await store.find(RECORD_KEY))?.state === 'released', 'the release');
    const { args } = store.calls.findLast(({ method }) => method === 'release')!;
    expect(args[1]).toEqual({ began: true });
  });

  it('does not go on releasing once the lease is over', async () => {
    const store = storeWithFaults();
    run = await startRun(store, { leaseMs: 100 });
    store.on('release').fail();
    await settleRun(store, run, RELEASE, KEPT_A_MINUTE);
    run.end();
    await eventually(() => !run!.mayHoldClaim, 'the end of the lease');
    await new Promise((resolve) => setTimeout(resolve, 250)); // a round that had begun before
    const asked = store.count('release');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(store.count('release')).toBe(asked);
  });
});

describe('giving back a claim whose reply never came', () => {
  it('removes a claim that was won after all', async () => {
    const store = storeWithFaults();
    const request = claimRequest();
    store.on('claim').loseReply(1);
    await expect(store.claim(request)).rejects.toThrow();
    undoClaim(store, request);
    await eventually(async () => (await store.find(RECORD_KEY)) === undefined, 'the claim to be gone');
    expect(store.count('release')).toBe(1);
  });

  it('asks again where the claim arrives after the first question', async () => {
    const store = storeWithFaults();
    const request = claimRequest();
    undoClaim(store, request);
    await eventually(
      () => store.calls.some(({ method, outcome }) => method === 'release' && outcome === 'returned'),
      'the first question',
    );
    expect((await store.claim(request)).kind).toBe('claimed');
    await eventually(async () => (await store.find(RECORD_KEY)) === undefined, 'the second question');
  });

  it('asks again where the store is still away', async () => {
    const store = storeWithFaults();
    const request = claimRequest();
    await store.claim(request);
    store.on('release').fail(1);
    undoClaim(store, request);
    await eventually(async () => (await store.find(RECORD_KEY)) === undefined, 'the second question');
    expect(store.count('release')).toBe(2);
  });

  it('leaves the claim of another request alone', async () => {
    const store = storeWithFaults();
    await store.claim(claimRequest());
    undoClaim(store, claimRequest());
    await eventually(() => store.count('release') >= 2, 'two questions');
    expect((await store.find(RECORD_KEY))?.state).toBe('in_progress');
  });
});
