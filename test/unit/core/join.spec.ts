import { Engine, type IdempotentCall, type RunFunction } from '../../../lib/core/engine.js';
import {
  IdempotencyInProgressError,
  IdempotencyKeyReusedError,
  IdempotencyStoreError,
} from '../../../lib/core/errors.js';
import { waitForRunning, type Waiting } from '../../../lib/core/join.js';
import type { ClaimResult, IdempotencyStore } from '../../../lib/core/store.js';
import { memoryStore } from '../../../lib/stores/memory/memory-store.js';
import { deferred, eventually } from '../support.js';
import { ANSWER, POLICY, RECORD_KEY } from './runs.js';

const running: ClaimResult = { kind: 'in_progress', leaseRemainingMs: 60_000, runningMs: 0 };
const abandoned = { kind: 'abandoned' } as ClaimResult;

/** A store of which only the hints matter. */
function hints(): { store: IdempotencyStore; ring: () => void; listeners: () => number } {
  const wakes = new Set<() => void>();
  const store = {
    name: 'hints',
    subscribe(recordKey: string, wake: () => void) {
      expect(recordKey).toBe(RECORD_KEY);
      wakes.add(wake);
      return () => void wakes.delete(wake);
    },
  } as unknown as IdempotencyStore;
  return { store, ring: () => wakes.forEach((wake) => wake()), listeners: () => wakes.size };
}

function wait(changes: Partial<Waiting> & Pick<Waiting, 'ask'>): ReturnType<typeof waitForRunning> {
  return waitForRunning({
    store: { name: 'without hints' } as unknown as IdempotencyStore,
    recordKey: RECORD_KEY,
    timeoutMs: 10_000,
    callerLeft: undefined,
    ...changes,
  });
}

describe('waiting for a running operation', () => {
  it('gives the first answer that is not "in progress", with the moment at which it was asked for', async () => {
    const before = performance.now();
    const { result, askedAt } = await wait({ ask: async () => abandoned });
    expect(result).toBe(abandoned);
    expect(askedAt).toBeGreaterThanOrEqual(before);
    expect(askedAt).toBeLessThanOrEqual(performance.now());
  });

  it('is woken by a hint, long before the next poll', async () => {
    const { store, ring, listeners } = hints();
    const asked: number[] = [];
    let settled = false;
    const waiting = wait({
      store,
      ask: async () => {
        asked.push(performance.now());
        return settled ? abandoned : running;
      },
    });
    await eventually(() => asked.length >= 6, 'polls that are a second apart by now');
    settled = true;
    ring();
    const rungAt = performance.now();
    await waiting;
    expect(asked.at(-1)! - rungAt).toBeLessThan(700);
    expect(listeners()).toBe(0);
  });

  it('does not miss a hint that comes while it asks', async () => {
    const { store, ring } = hints();
    const asks: number[] = [];
    let round = 0;
    await wait({
      store,
      ask: async () => {
        asks.push(performance.now());
        round += 1;
        if (round === 6) ring(); // before the wait of a second begins
        return round === 7 ? abandoned : running;
      },
    });
    expect(asks[6]! - asks[5]!).toBeLessThan(700);
  });

  it('asks again by itself where no hint comes, ever more seldom', async () => {
    const asked: number[] = [];
    await wait({
      ask: async () => {
        asked.push(performance.now());
        return asked.length === 5 ? abandoned : running;
      },
    });
    const pauses = asked.slice(1).map((at, i) => at - asked[i]!);
    [50, 100, 200, 400].forEach((least, i) => expect(pauses[i]).toBeGreaterThanOrEqual(least - 2));
  });

  it('asks when the lease of the running one ends: nobody gives a hint of that', async () => {
    const { store } = hints();
    const asked: number[] = [];
    await wait({
      store,
      ask: async () => {
        asked.push(performance.now());
        if (asked.length === 7) return abandoned;
        return asked.length < 6 ? running : { ...running, leaseRemainingMs: 30 };
      },
    });
    expect(asked[6]! - asked[5]!).toBeGreaterThanOrEqual(29);
    expect(asked[6]! - asked[5]!).toBeLessThan(800); // the poll would come after a second
  });

  it('gives "in progress" after its time, and not before', async () => {
    const { store, listeners } = hints();
    const before = performance.now();
    expect((await wait({ store, timeoutMs: 120, ask: async () => running })).result).toBe(running);
    expect(performance.now() - before).toBeGreaterThanOrEqual(119);
    expect(listeners()).toBe(0);
  });

  it('ends when the caller has left, and listens no more', async () => {
    const { store, listeners } = hints();
    const caller = new AbortController();
    let asked = 0;
    const waiting = wait({ store, callerLeft: caller.signal, ask: async () => (asked++, running) });
    await eventually(() => asked >= 5, 'long pauses');
    const leftAt = performance.now();
    caller.abort();
    expect((await waiting).result).toBe(running);
    expect(performance.now() - leftAt).toBeLessThan(600);
    expect(listeners()).toBe(0);
  });

  it('asks once for a caller who had left before', async () => {
    let asked = 0;
    const { result } = await wait({ callerLeft: AbortSignal.abort(), ask: async () => (asked++, running) });
    expect(result).toBe(running);
    expect(asked).toBe(1);
  });

  it('passes on an error of the store, and listens no more', async () => {
    const { store, listeners } = hints();
    const away = new IdempotencyStoreError('away');
    await expect(wait({ store, ask: () => Promise.reject(away) })).rejects.toBe(away);
    expect(listeners()).toBe(0);
  });
});

describe('requests that join', () => {
  const call: IdempotentCall = {
    scope: 's',
    operation: 'pay',
    key: 'k',
    fingerprint: 'f',
    policy: { ...POLICY, inFlight: 'join' },
  };
  const recorded: RunFunction<void> = async () => ({ kind: 'record', answer: ANSWER });

  it('all get the answer of the one that runs', async () => {
    const engine = new Engine(memoryStore(), false);
    const gate = deferred();
    let runs = 0;
    const run: RunFunction<void> = async () => {
      runs += 1;
      await gate.promise;
      return { kind: 'record', answer: ANSWER };
    };
    const first = engine.execute(call, run);
    await eventually(() => runs === 1, 'the run');
    const others = Array.from({ length: 30 }, () => engine.execute(call, run));
    gate.resolve();
    expect((await first).kind).toBe('ran');
    for (const other of await Promise.all(others)) {
      expect(other).toMatchObject({ kind: 'replay', answer: { status: 200 } });
    }
    expect(runs).toBe(1);
  });

  it('let exactly one of them run where the running one is released', async () => {
    const engine = new Engine(memoryStore(), false);
    const gate = deferred();
    const attempts: number[] = [];
    const fails: RunFunction<void> = async ({ context }) => {
      attempts.push(context.attempt);
      await gate.promise;
      return { kind: 'release', began: true };
    };
    const succeeds: RunFunction<void> = async ({ context }) => {
      attempts.push(context.attempt);
      return { kind: 'record', answer: ANSWER };
    };
    const first = engine.execute(call, fails);
    await eventually(() => attempts.length === 1, 'the run');
    const others = Array.from({ length: 30 }, () => engine.execute(call, succeeds));
    gate.resolve();
    await first;
    const kinds = (await Promise.all(others)).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'ran')).toHaveLength(1);
    expect(kinds.filter((kind) => kind === 'replay')).toHaveLength(29);
    expect(attempts).toEqual([1, 2]);
  });

  it('get a 409 with a time to come back after joinTimeout, and leave the running one alone', async () => {
    const engine = new Engine(memoryStore(), false);
    const gate = deferred();
    const first = engine.execute(call, async () => (await gate.promise, { kind: 'record' as const, answer: ANSWER }));
    const impatient = { ...call, policy: { ...call.policy, joinTimeoutMs: 60 } };
    const refused = await engine.execute(impatient, recorded).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(IdempotencyInProgressError);
    expect((refused as IdempotencyInProgressError).retryAfterSeconds).toBeGreaterThanOrEqual(1);
    gate.resolve();
    expect((await first).kind).toBe('ran');
  });

  it('are refused at once where their payload is another one', async () => {
    const engine = new Engine(memoryStore(), false);
    const gate = deferred();
    const first = engine.execute(call, async () => (await gate.promise, { kind: 'record' as const, answer: ANSWER }));
    await expect(engine.execute({ ...call, fingerprint: 'g' }, recorded)).rejects.toThrow(IdempotencyKeyReusedError);
    gate.resolve();
    await first;
  });
});
