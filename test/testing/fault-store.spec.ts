import { randomUUID } from 'node:crypto';
import { IdempotencyStoreError } from '../../lib/core/errors.js';
import type { KeptAnswer } from '../../lib/core/record.js';
import type { ClaimRequest, IdempotencyStore } from '../../lib/core/store.js';
import { MemoryStore, memoryStore } from '../../lib/stores/memory/memory-store.js';
import { fakeClock, faultStore, type FaultCall, type FaultMethod } from '../../lib/testing/index.js';
import { runContract } from './collecting-runner.js';

const answer: KeptAnswer = { kept: true, status: 200, headers: [], body: Buffer.from('first') };

function request(changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    recordKey: 'k'.repeat(43),
    operation: 'POST /charges',
    fingerprint: 'f',
    claimToken: randomUUID(),
    leaseMs: 60_000,
    retentionMs: 60_000,
    keepAbandoned: true,
    takeOver: false,
    ...changes,
  };
}

async function stateOf(store: IdempotencyStore): Promise<string | undefined> {
  return (await store.find('k'.repeat(43)))?.state;
}

describe('faultStore', () => {
  it('without faults keeps the store contract of the store that it wraps', async () => {
    const results = await runContract(async () => {
      const clock = fakeClock();
      return { store: faultStore(memoryStore({ clock })), advance: (ms) => clock.advance(ms) };
    });
    expect(results.filter(({ error }) => error)).toEqual([]);
  });

  it('fails a call before anything has happened', async () => {
    const inner = memoryStore();
    const faults = faultStore(inner);
    faults.on('claim').fail();
    await expect(faults.claim(request())).rejects.toThrow(IdempotencyStoreError);
    await expect(faults.claim(request())).rejects.toThrow(IdempotencyStoreError);
    expect(await stateOf(inner)).toBeUndefined();
    faults.heal();
    expect((await faults.claim(request())).kind).toBe('claimed');
  });

  it('fails with the error that it is given', async () => {
    const faults = faultStore(memoryStore());
    const error = new Error('connection refused');
    faults.on('find').fail(1, error);
    await expect(faults.find('k')).rejects.toBe(error);
  });

  it('loses a reply: the work is done, and the caller does not learn of it', async () => {
    const inner = memoryStore();
    const faults = faultStore(inner);
    const claim = request();
    await faults.claim(claim);
    faults.on('complete').loseReply(1);
    await expect(faults.complete(claim, answer, 1_000)).rejects.toThrow(IdempotencyStoreError);
    expect(await stateOf(inner)).toBe('completed');
    await expect(faults.complete(claim, answer, 1_000)).resolves.toBe('written');
    expect(faults.calls.map(({ method, number, outcome }) => [method, number, outcome])).toEqual([
      ['claim', 1, 'returned'],
      ['complete', 1, 'lost'],
      ['complete', 2, 'returned'],
    ]);
  });

  it('counts call numbers from when the fault was planted', async () => {
    const faults = faultStore(memoryStore());
    await faults.find('k');
    faults.on('find').fail(2);
    await faults.find('k');
    await expect(faults.find('k')).rejects.toThrow(IdempotencyStoreError);
    await faults.find('k');
    expect(faults.count('find')).toBe(4);
    expect(faults.count('purge')).toBe(0);
    expect(() => faults.on('find').fail(0)).toThrow(RangeError);
  });

  it('strikes by a predicate over method, number and arguments', async () => {
    const faults = faultStore(memoryStore());
    faults.on('find').fail((call) => call.args[0] === 'bad' || call.number === 3);
    await faults.find('good');
    await expect(faults.find('bad')).rejects.toThrow(IdempotencyStoreError);
    await expect(faults.find('good')).rejects.toThrow(IdempotencyStoreError);
    await faults.find('good');
  });

  it('delays a call on its way to the store', async () => {
    const inner = memoryStore();
    const faults = faultStore(inner);
    faults.on('claim').delay(40, 1);
    const started = performance.now();
    const claimed = faults.claim(request());
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await stateOf(inner)).toBeUndefined();
    expect((await claimed).kind).toBe('claimed');
    expect(performance.now() - started).toBeGreaterThan(35);
  });

  it('hangs a call until it is healed; the call then still arrives', async () => {
    const inner = memoryStore();
    const faults = faultStore(inner);
    faults.on('claim').hang();
    faults.on('claim').fail(); // planted at the same point: gone, too, once the first one lets go
    const claimed = faults.claim(request());
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(faults.calls[0]?.outcome).toBe('pending');
    expect(await stateOf(inner)).toBeUndefined();
    faults.heal();
    expect((await claimed).kind).toBe('claimed');
    expect(await stateOf(inner)).toBe('in_progress');
  });

  it('runs an action at a named point, before or after the work', async () => {
    const inner = memoryStore();
    const seen: [string, string | undefined][] = [];
    const faults = faultStore(inner);
    faults.at('before-claim').crash(async () => seen.push(['before', await stateOf(inner)]));
    faults.at('after-claim').crash(async () => seen.push(['after', await stateOf(inner)]));
    await faults.claim(request());
    expect(seen).toEqual([
      ['before', undefined],
      ['after', 'in_progress'],
    ]);
  });

  it('takes such actions as a plan', async () => {
    const seen: FaultCall[] = [];
    const faults = faultStore(memoryStore(), { 'after-claim': (call) => seen.push({ ...call }) });
    const claim = request();
    await faults.claim(claim);
    await faults.find(claim.recordKey);
    expect(seen).toEqual([{ method: 'claim', number: 1, args: [claim], outcome: 'pending' }]);
  });

  it('loses the reply of an append: the batch is written, and is known again', async () => {
    const inner = memoryStore();
    const faults = faultStore(inner);
    const claimed = await faults.claim(request());
    if (claimed.kind !== 'claimed') throw new Error(claimed.kind);
    const { claim } = claimed;
    const batch = { firstSeq: 1, items: [Buffer.from('one')], head: { status: 200, headers: [] } };
    faults.on('append').loseReply(1);
    await expect(faults.events.append(claim, batch, 60_000)).rejects.toThrow(IdempotencyStoreError);
    expect((await inner.events.read(claim, 0, 1_000))?.tail).toBe(1);
    await expect(faults.events.append(claim, batch, 60_000)).resolves.toBe('written');
    expect((await faults.events.read(claim, 0, 1_000))?.tail).toBe(1);
    expect(faults.calls.map(({ method, number, outcome }) => [method, number, outcome])).toEqual([
      ['claim', 1, 'returned'],
      ['append', 1, 'lost'],
      ['append', 2, 'returned'],
      ['read', 1, 'returned'],
    ]);
  });

  it('strikes at the calls of the event log and of the steps, and at requestCancel', async () => {
    const faults = faultStore(memoryStore());
    const claim = request();
    await faults.claim(claim);
    const ref = { recordKey: claim.recordKey, recordId: randomUUID(), attempt: 1 };
    const calls = {
      append: () => faults.events.append(claim, { firstSeq: 2, items: [Buffer.from('x')] }, 60_000),
      read: () => faults.events.read(ref, 0, 1_000),
      save: () => faults.steps.save(claim, 'step', Buffer.from('1'), 60_000),
      load: () => faults.steps.load(claim),
      requestCancel: () => faults.requestCancel(claim.recordKey),
    };
    for (const [method, call] of Object.entries(calls)) {
      const planted = faults.on(method as FaultMethod);
      planted.fail(1);
      await expect(call()).rejects.toThrow(`planted failure at before-${method}`);
      planted.loseReply(1);
      await expect(call()).rejects.toThrow(`planted failure at after-${method}`);
      await call();
      expect(faults.count(method as FaultMethod)).toBe(3);
    }
    expect((await faults.steps.load(claim)).size).toBe(1);
    expect(await faults.renew(claim, 60_000)).toBe('cancel_requested');
  });

  it('gives the same event log each time, and none where the store has none', () => {
    const faults = faultStore(memoryStore());
    expect(faults.events).toBe(faults.events);
    const parts = { events: undefined, steps: undefined, requestCancel: undefined };
    const without: IdempotencyStore = faultStore(Object.assign(memoryStore(), parts));
    expect([without.events, without.steps, without.requestCancel]).toEqual([undefined, undefined, undefined]);
  });

  it('has subscribe, start and stop only if the store has them, and whatever else it has', async () => {
    const plain: IdempotencyStore = faultStore(memoryStore());
    expect('subscribe' in plain).toBe(true);
    expect('start' in plain).toBe(false);
    expect('stop' in plain).toBe(false);
    expect(plain.name).toBe('memory');

    let stopped = 0;
    class Backend extends MemoryStore {
      readonly size = () => 7;
      stop = async () => void (stopped += 1);
    }
    const faults = faultStore(new Backend());
    expect(faults).toBeInstanceOf(Backend);
    expect(faults.size()).toBe(7);
    faults.on('stop').fail(1);
    await expect(faults.stop()).rejects.toThrow(IdempotencyStoreError);
    expect(stopped).toBe(0);
    await faults.stop();
    expect(stopped).toBe(1);
  });

  it('keeps the latest 1,000 calls', async () => {
    const faults = faultStore(memoryStore());
    for (let n = 0; n < 1_005; n += 1) await faults.find('k');
    expect(faults.calls.length).toBe(1_000);
    expect(faults.calls[0]?.number).toBe(6);
    expect(faults.count('find')).toBe(1_005);
  });
});
