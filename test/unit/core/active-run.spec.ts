import { monotonicNow } from '../../../lib/core/clock.js';
import { IdempotencyClaimLostError } from '../../../lib/core/errors.js';
import type { ActiveRun } from '../../../lib/core/active-run.js';
import { deferred, eventually } from '../support.js';
import { claimRequest, RECORD_KEY, startRun, storeWithFaults } from './runs.js';

let run: ActiveRun | undefined;
afterEach(() => run?.end());

describe('a run that holds a claim', () => {
  it('tells the handler what it is in', async () => {
    const store = storeWithFaults();
    run = await startRun(store);
    const { claim, context } = run;
    expect(context).toMatchObject({ key: 'k', operation: 'pay', attempt: 1, fencingToken: claim.fencingToken });
    expect(context.downstreamKey('charge')).toMatch(/^idem_[A-Za-z0-9_-]{43}$/);
    expect(context.signal.aborted).toBe(false);
    expect(run.mayHoldClaim).toBe(true);
  });

  it('renews the lease each third of it, for as long as it runs', async () => {
    const store = storeWithFaults();
    const renewedAt: number[] = [];
    store.at('before-renew').crash(() => renewedAt.push(monotonicNow()));
    const startedAt = monotonicNow();
    run = await startRun(store, { leaseMs: 600 });
    await eventually(() => renewedAt.length >= 5, 'five renewals');
    const pauses = renewedAt.map((at, i) => at - (renewedAt[i - 1] ?? startedAt));
    for (const pause of pauses) expect(pause).toBeGreaterThanOrEqual(195);
    expect(monotonicNow() - startedAt).toBeGreaterThan(900); // longer than its first lease
    expect((await store.find(RECORD_KEY))?.state).toBe('in_progress');
    expect(run.context.signal.aborted).toBe(false);
    expect(run.mayHoldClaim).toBe(true);
  });

  it('asks for the lease that the route has', async () => {
    const store = storeWithFaults();
    run = await startRun(store, { leaseMs: 600 });
    await eventually(() => store.count('renew') >= 1, 'a renewal');
    expect(store.calls.find(({ method }) => method === 'renew')?.args[1]).toBe(600);
  });

  it('stops renewing when it has ended', async () => {
    const store = storeWithFaults();
    run = await startRun(store, { leaseMs: 60 });
    run.end();
    await eventually(async () => (await store.find(RECORD_KEY))?.state === 'abandoned', 'the end of the lease');
    expect(store.count('renew')).toBe(0);
    expect(run.context.signal.aborted).toBe(false);
  });

  it('aborts the signal when the store says that the claim is lost, and renews no more', async () => {
    const store = storeWithFaults();
    run = await startRun(store, { leaseMs: 600 });
    await store.abandon(run.claim, { began: true });
    await eventually(() => run!.context.signal.aborted, 'the abort');
    expect(run.context.signal.reason).toBeInstanceOf(IdempotencyClaimLostError);
    expect(run.mayHoldClaim).toBe(false);
    expect(store.count('renew')).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(store.count('renew')).toBe(1);
  });

  it('survives a store that fails for less than a lease', async () => {
    const store = storeWithFaults();
    run = await startRun(store, { leaseMs: 2_000 });
    store.on('renew').fail();
    await eventually(() => store.count('renew') >= 3, 'three renewals that fail');
    expect(run.context.signal.aborted).toBe(false);
    expect(run.mayHoldClaim).toBe(true);
    store.heal();
    const before = store.count('renew');
    await eventually(
      () => store.calls.at(-1)?.outcome === 'returned' && store.count('renew') > before,
      'one that does not',
    );
    expect((await store.find(RECORD_KEY))?.state).toBe('in_progress');
    expect(run.context.signal.aborted).toBe(false);
  });

  it('asks sooner after a renewal that failed', async () => {
    const store = storeWithFaults();
    store.on('renew').fail();
    const startedAt = monotonicNow();
    run = await startRun(store, { leaseMs: 1_200 });
    await eventually(() => store.count('renew') >= 3, 'three renewals');
    // One third of the lease, then two twelfths: three thirds would be the whole of it.
    expect(monotonicNow() - startedAt).toBeLessThan(1_150);
  });

  it('believes the claim lost when the store fails for a whole lease, but not sooner', async () => {
    const store = storeWithFaults();
    const sentAt = monotonicNow();
    run = await startRun(store, { leaseMs: 150 });
    store.on('renew').fail();
    await eventually(() => run!.context.signal.aborted, 'the abort');
    expect(monotonicNow() - sentAt).toBeGreaterThanOrEqual(150);
    expect((run.context.signal.reason as Error).message).toContain('its lease ended before it could be renewed');
    expect(run.mayHoldClaim).toBe(false);
    const asked = store.count('renew');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(store.count('renew')).toBe(asked);
  });

  it('counts the lease from when the renewal was sent, not from when its reply came', async () => {
    const store = storeWithFaults();
    run = await startRun(store, { leaseMs: 1_000 });
    const gate = deferred();
    let sentAt = 0;
    store.at('after-renew').crash(() => ((sentAt ||= monotonicNow()), gate.promise), 1);
    store.at('before-renew').fail((call) => call.number > 1);
    await eventually(() => sentAt > 0, 'a renewal');
    await new Promise((resolve) => setTimeout(resolve, 600));
    gate.resolve();
    await eventually(() => !run!.mayHoldClaim, 'the end of the lease');
    expect(monotonicNow() - sentAt).toBeLessThan(1_500);
  });

  it('stops renewing at maxDuration, and then lets the lease end', async () => {
    const store = storeWithFaults();
    const startedAt = monotonicNow();
    run = await startRun(store, { leaseMs: 450, maxDurationMs: 700 });
    await eventually(() => run!.context.signal.aborted, 'the abort');
    const tookMs = monotonicNow() - startedAt;
    expect(tookMs).toBeGreaterThanOrEqual(700);
    expect((run.context.signal.reason as Error).message).toContain('longer than maxDuration');
    await eventually(async () => (await store.find(RECORD_KEY))?.state === 'abandoned', 'the abandoned record');
    // The last renewal was sent before maxDuration was over, so the record is free one lease after it.
    const last = store.calls.filter(({ method }) => method === 'renew').length;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(store.count('renew')).toBe(last);
  });

  it('goes on holding the claim when it is cancelled: only the handler is told', async () => {
    const store = storeWithFaults();
    run = await startRun(store, { leaseMs: 450 });
    const reason = new Error('the client has left');
    run.cancel(reason);
    run.cancel(new Error('a second one'));
    expect(run.context.signal.reason).toBe(reason);
    await eventually(() => store.count('renew') >= 3, 'renewals after it');
    expect((await store.find(RECORD_KEY))?.state).toBe('in_progress');
  });

  it('does not renew without pause under a lease that is longer than a timer can count', async () => {
    const store = storeWithFaults();
    const leaseMs = 100 * 86_400_000;
    run = await startRun(store, { leaseMs, maxDurationMs: 2 * leaseMs }, claimRequest({ leaseMs }));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(store.count('renew')).toBe(0);
  });
});
