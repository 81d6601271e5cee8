import { eventually } from '../e2e/support/http-client.js';
import type { LiveResponse } from '../e2e/support/streaming-client.js';
import { describeServers, type Place } from '../processes/support/places.js';
import { Stalls } from '../processes/support/stalls.js';
import type { StreamingConfig } from './fixtures/config.js';
import { Ledger } from './support/ledger.js';
import { BOOT_MS, killAll, numbersOf, StreamingApp, upTo } from './support/streaming-apps.js';

const LEASE_MS = 1_500;
/** What the end may come after the lease. */
const MARGIN_MS = 1_000;
const ENDLESS = { n: 100_000, pause: 10 };

describeServers('the process that produces a stream is lost', (backend) => {
  let ledger: Ledger;
  let place: Place;
  let reader: StreamingApp;
  let stalls: Stalls;
  const victims: StreamingApp[] = [];

  const startVictim = async (config: Pick<StreamingConfig, 'adapter' | 'leaseMs' | 'shutdownMs'>) => {
    const victim = await StreamingApp.start({ ...common(), ...config });
    victims.push(victim);
    return victim;
  };
  const common = (): { store: Place['store']; ledger: string } => ({ store: place.store, ledger: ledger.url });

  beforeAll(async () => {
    stalls = new Stalls();
    ledger = await Ledger.open();
    place = await backend.open('streams-lost');
    reader = await StreamingApp.start({ ...common(), adapter: 'express', leaseMs: LEASE_MS });
  }, BOOT_MS);
  afterAll(async () => {
    await killAll([...victims, ...(reader ? [reader] : [])]);
    await place?.close();
    ledger?.close();
    stalls?.stop();
  });

  describe.each(['express', 'fastify'] as const)('%s', (adapter) => {
    let victim: StreamingApp;
    beforeAll(async () => (victim = await startVictim({ adapter, leaseMs: LEASE_MS })), BOOT_MS);

    it('frozen past its lease: what it writes late is recorded nowhere, and its own client is told', async () => {
      const events = { key: `frozen-${adapter}`, body: ENDLESS };
      const first = await victim.open('tokens', events);
      const follower = await reader.open('tokens', events);
      await eventually(() => first.events.length > 20 && follower.events.length > 20, '20 events');
      stalls.take();
      victim.process.kill('SIGSTOP');
      const frozenAt = performance.now();
      await follower.over();
      expect(performance.now() - frozenAt).toBeLessThan(LEASE_MS + MARGIN_MS + stalls.take());
      const before = await reader.whole('tokens', events);
      expectInterrupted(before);
      expect(follower.bytes.equals(before.bytes)).toBe(true);

      victim.process.kill('SIGCONT');
      // Its client hears of it when the late append was refused.
      await first.over();
      expectInterrupted(first);
      const seen = first.events.slice(0, -1);
      expect(before.events.slice(0, seen.length)).toEqual(seen);
      for (const app of [reader, victim]) {
        expect((await app.whole('tokens', events)).bytes.equals(before.bytes)).toBe(true);
      }
      expect(ledger.callsOf(events.key)).toBe(1);
    }, 60_000);

    it('killed: followers and retries end interrupted within the lease and a second, with what was recorded', async () => {
      const events = { key: `killed-${adapter}`, body: ENDLESS };
      const bytes = { key: `killed-bytes-${adapter}`, body: ENDLESS };
      const [first, firstBytes] = await Promise.all([victim.open('tokens', events), victim.open('bytes', bytes)]);
      const followers = await Promise.all([0, 1, 2].map(() => reader.open('tokens', events)));
      const byteFollower = await reader.open('bytes', bytes);
      await eventually(() => first.events.length > 20 && followers.every((one) => one.events.length > 20), '20 events');
      await eventually(() => byteFollower.bytes.length > 0 && firstBytes.bytes.length > 0, 'bytes');

      stalls.take();
      victim.process.kill();
      const killedAt = performance.now();
      const early = await reader.open('tokens', events);
      await Promise.all([...followers, byteFollower, early].map((one) => one.over()));
      const took = performance.now() - killedAt;
      expect(took).toBeLessThan(LEASE_MS + MARGIN_MS + stalls.take());

      const late = await reader.whole('tokens', events);
      for (const one of [...followers, early, late]) expectInterrupted(one);
      for (const one of [...followers, early]) expect(one.bytes.equals(late.bytes)).toBe(true);
      expect(late.headers['idempotency-stream']).toBe('interrupted');
      // What the first client has seen was recorded.
      expect(late.events.slice(0, first.events.length)).toEqual(first.events);
      const resumed = await reader.whole('tokens', { ...events, lastEventId: first.events[9]!.id });
      expect([...first.events.slice(0, 10), ...resumed.events]).toEqual(late.events);

      const lateBytes = await reader.whole('bytes', bytes);
      expect([byteFollower.ended, lateBytes.ended]).toEqual([false, false]);
      expect(lateBytes.headers['idempotency-stream']).toBe('interrupted');
      expect(byteFollower.bytes.equals(lateBytes.bytes)).toBe(true);
      expect(lateBytes.bytes.subarray(0, firstBytes.bytes.length).equals(firstBytes.bytes)).toBe(true);
      expect([ledger.callsOf(events.key), ledger.callsOf(bytes.key)]).toEqual([1, 1]);
    }, 60_000);
  });

  it.each(['express', 'fastify'] as const)(
    'told to stop (%s): streams may end within shutdownTimeout; the others are interrupted at once, not at the lease',
    async (adapter) => {
      const shutdownMs = 2_500;
      const victim = await startVictim({ adapter, leaseMs: 60_000, shutdownMs });
      const endless = { key: `stopped-${adapter}`, body: ENDLESS };
      const short = { key: `ends-${adapter}`, body: { n: 60, pause: 10 } };
      const first = await victim.open('tokens', endless);
      const [follower, ends] = await Promise.all([reader.open('tokens', endless), victim.open('tokens', short)]);
      await eventually(() => first.events.length > 5 && follower.events.length > 5, 'some events');
      victim.process.kill('SIGTERM');
      const toldAt = performance.now();
      await ends.over();
      expect(numbersOf(ends.events)).toEqual(upTo(60));
      await Promise.all([first.over(), follower.over()]);
      const took = performance.now() - toldAt;
      expect(took).toBeGreaterThan(shutdownMs - 100);
      // A lease of a minute was not waited for.
      expect(took).toBeLessThan(10_000);
      const late = await reader.whole('tokens', endless);
      for (const one of [first, follower, late]) {
        expectInterrupted(one);
        expect(one.bytes.equals(late.bytes)).toBe(true);
      }
      expect((await reader.whole('tokens', short)).bytes.equals(ends.bytes)).toBe(true);
      expect(await victim.process.exited).toMatchObject({});
      expect([ledger.callsOf(endless.key), ledger.callsOf(short.key)]).toEqual([1, 1]);
    },
    60_000,
  );

  it.each(['express', 'fastify'] as const)(
    'a process that only follows is told to stop (%s): it goes at once, its clients resume elsewhere',
    async (adapter) => {
      // It has nothing of its own to wait for, so the stream of another process must not keep it.
      const follower = await startVictim({ adapter, leaseMs: 60_000, shutdownMs: 30_000 });
      const endless = { key: `followed-${adapter}`, body: ENDLESS };
      const bytes = { key: `followed-bytes-${adapter}`, body: ENDLESS };
      const first = await reader.open('tokens', endless);
      const firstBytes = await reader.open('bytes', bytes);
      const followers = await Promise.all([0, 1, 2].map(() => follower.open('tokens', endless)));
      const byteFollower = await follower.open('bytes', bytes);
      await eventually(() => followers.every(({ events }) => events.length > 5), 'some events');
      await eventually(() => byteFollower.bytes.length > 0, 'some bytes');
      follower.process.kill('SIGTERM');
      const toldAt = performance.now();
      expect(await follower.process.exited).toMatchObject({ signal: 'SIGTERM' });
      expect(performance.now() - toldAt).toBeLessThan(10_000);
      for (const one of [...followers, byteFollower]) {
        await one.over();
        // No clean end: the stream goes on.
        expect(one.ended).toBe(false);
      }
      const seen = followers[0]!.events;
      const again = await reader.open('tokens', { ...endless, lastEventId: seen[seen.length - 1]!.id });
      await eventually(() => again.events.length > 5, 'what came after');
      expect(numbersOf([...seen, ...again.events])).toEqual(upTo(seen.length + again.events.length));
      for (const one of [first, firstBytes]) expect([one.ended, one.cut]).toEqual([false, false]);
      for (const one of [first, firstBytes, again]) one.leave();
      expect([ledger.callsOf(endless.key), ledger.callsOf(bytes.key)]).toEqual([1, 1]);
      await Promise.all([reader.cancel('tokens', endless.key), reader.cancel('bytes', bytes.key)]);
    },
    60_000,
  );
});

/** Contiguous from the first token, then the message of its own. */
function expectInterrupted(answer: LiveResponse): void {
  const { events } = answer;
  const last = events[events.length - 1]!;
  expect(last).toMatchObject({ event: 'idempotency.interrupted' });
  expect(JSON.parse(last.data)).toMatchObject({ code: 'stream_interrupted', reason: 'producer_lost' });
  expect(numbersOf(events.slice(0, -1))).toEqual(upTo(events.length - 1));
}
