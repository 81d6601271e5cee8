import { setTimeout as sleep } from 'node:timers/promises';
import type { EventLog } from '../../../lib/core/event-log.js';
import { FlushClocks, FlushClock } from '../../../lib/core/streams/flush-clock.js';
import { StreamRecorder } from '../../../lib/core/streams/recorder.js';
import type { ActiveRun } from '../../../lib/core/active-run.js';
import { memoryStore } from '../../../lib/stores/memory/memory-store.js';
import { claimRequest, POLICY, startRun } from './runs.js';

const HEAD = { status: 200, headers: [] };
const FLUSH_MS = 40;
const item = (n: number): Buffer => Buffer.from(`item ${n}`);

describe('what a stream appends', () => {
  const store = memoryStore();
  const runs: ActiveRun[] = [];
  afterEach(() => {
    for (const run of runs.splice(0)) run.end();
  });

  interface Appended {
    readonly stream: number;
    readonly firstSeq: number;
    readonly items: number;
    /** The turn of the event loop. */
    readonly turn: number;
  }

  /** Recorders on one clock, and what they append. */
  async function record(streams: number, flush = FLUSH_MS): Promise<{ all: StreamRecorder[]; appended: Appended[] }> {
    const appended: Appended[] = [];
    let turn = 0;
    const clocks = new FlushClocks();
    const all: StreamRecorder[] = [];
    for (let n = 0; n < streams; n += 1) {
      const run = await startRun(store, {}, claimRequest({ recordKey: `${n}`.padStart(43, 'r') + Math.random() }));
      runs.push(run);
      const log: EventLog = {
        read: (...args) => store.events.read(...args),
        append(claim, batch, leaseMs) {
          appended.push({ stream: n, firstSeq: batch.firstSeq, items: batch.items.length, turn });
          setImmediate(() => (turn += 1));
          return store.events.append(claim, batch, leaseMs);
        },
      };
      const limits = { ...POLICY.stream, flushAfterMs: flush, flushItems: 64, flushBytes: 16_384 };
      const on = { trouble: (): void => undefined, drain: (): void => undefined };
      all.push(new StreamRecorder(log, run, HEAD, limits, clocks.of(flush), on));
    }
    return { all, appended };
  }

  it('the first item goes at once; then what comes within a flush time goes together, of all streams in the same turn', async () => {
    const { all, appended } = await record(20);
    let pushed = 0;
    const since = performance.now();
    for (; performance.now() - since < 400; pushed += 1) {
      for (const recorder of all) recorder.push(item(pushed + 1));
      if (pushed === 0) expect(appended.map(({ items }) => items)).toEqual(Array(20).fill(1));
      await sleep(2);
    }
    for (const recorder of all) expect(await recorder.finish()).toBeUndefined();
    // One for each time of the clock; and where the machine was slow, between two of them one that came alone.
    const most = 2 + Math.ceil((1.5 * (performance.now() - since)) / FLUSH_MS);
    const turns = new Set<number>();
    for (let n = 0; n < all.length; n += 1) {
      const batches = appended.filter(({ stream }) => stream === n);
      expect(batches.length).toBeLessThanOrEqual(most);
      let next = 1;
      for (const { firstSeq, items, turn } of batches) {
        expect(firstSeq).toBe(next);
        next += items;
        turns.add(turn);
      }
      expect(next - 1).toBe(pushed);
    }
    expect(turns.size).toBeLessThanOrEqual(most);
  });

  it('an item that comes alone waits for nobody', async () => {
    const { all, appended } = await record(1, 20);
    for (let n = 1; n <= 4; n += 1) {
      all[0]!.push(item(n));
      expect(appended).toHaveLength(n);
      await sleep(30);
    }
    await all[0]!.finish();
  });

  it('items that are enough do not wait for the time', async () => {
    const { all, appended } = await record(1, 60_000);
    all[0]!.push(item(1));
    await sleep(1);
    for (let n = 2; n <= 65; n += 1) all[0]!.push(item(n));
    expect(appended.map(({ items }) => items)).toEqual([1, 64]);
    all[0]!.push(item(66));
    // The end does not wait for it either.
    await all[0]!.finish();
    expect(appended.map(({ items }) => items)).toEqual([1, 64, 1]);
  });
});

describe('the clock of the streams of a process', () => {
  it('calls whoever has joined once, all together, and within its time', async () => {
    const clock = new FlushClock(30);
    const calls: string[] = [];
    const since = performance.now();
    await new Promise<void>((resolve) => {
      clock.join(() => calls.push('a'));
      setTimeout(() => clock.join(() => resolve(void calls.push('b'))), 1);
    });
    const took = performance.now() - since;
    await sleep(70);
    // The second may have come after the first time.
    expect(calls).toEqual(['a', 'b']);
    expect(took).toBeLessThan(1_000);
  });

  it('forgets whoever leaves, and then keeps no process alive', async () => {
    const clock = new FlushClock(20);
    let calls = 0;
    const flush = (): void => void (calls += 1);
    clock.join(flush);
    const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    const before = timers();
    clock.leave(flush);
    expect(timers()).toBe(before - 1);
    await sleep(50);
    expect(calls).toBe(0);
  });
});
