import { eventually } from '../e2e/support/http-client.js';
import { parseEvents } from '../e2e/support/streaming-client.js';
import { describeServers, type Place } from '../processes/support/places.js';
import { Ledger } from './support/ledger.js';
import { openUnread } from './support/slow-reader.js';
import { BOOT_MS, killAll, startPair, type StreamingApp } from './support/streaming-apps.js';

/** How many streams one after the other; `STREAM_LEAK` for more. */
const STREAMS = Number(process.env['STREAM_LEAK'] ?? 240);
const AT_ONCE = 8;
const MB = 1024 * 1024;

describeServers('what streams leave in a process', (backend) => {
  let ledger: Ledger;
  let place: Place;
  let apps: [StreamingApp, StreamingApp];

  beforeAll(async () => {
    ledger = await Ledger.open();
    place = await backend.open('streams-memory');
    apps = await startPair({ store: place.store, ledger: ledger.url });
  }, BOOT_MS);
  afterAll(async () => {
    await killAll(apps);
    await place?.close();
    ledger?.close();
  });

  describe.each([0, 1])('produced on process %s', (index) => {
    const producer = (): StreamingApp => apps[index]!;
    const other = (): StreamingApp => apps[1 - index]!;

    it('100 MB from a fast source, and nobody reads: memory is bounded, and the limit is told', async () => {
      const request = { key: `flood-${index}`, body: { n: 1 } };
      const before = await producer().collect();
      const first = await openUnread(producer().process.url, 'flood', request);
      const ended = async (): Promise<boolean> => (await other().find('flood', request.key))?.state === 'completed';
      await eventually(ended, 'the end of the stream', 30_000);
      const after = await producer().collect();
      // 10 MiB is the limit; a source that can wait is not far ahead of the store.
      expect(after.produced * 64 * 1024).toBeLessThan(16 * MB);
      expect(after.rss - before.rss).toBeLessThan(150 * MB);
      await expect(first.read()).rejects.toThrow('aborted');
      const late = await other().whole('flood', request);
      expect([late.ended, late.headers['idempotency-stream']]).toEqual([false, 'failed']);
      expect(late.bytes.length).toBe(10 * MB);
      expect(ledger.callsOf(request.key)).toBe(1);
    }, 60_000);

    it('100 MB from a source that cannot wait: the same', async () => {
      const request = { key: `rush-${index}`, body: { n: 1 } };
      const before = await producer().collect();
      const first = await producer().whole('rush', request);
      const after = await producer().collect();
      expect(after.rss - before.rss).toBeLessThan(150 * MB);
      const [end] = parseEvents(first.text).slice(-1);
      expect(end).toMatchObject({ event: 'idempotency.truncated' });
      expect(first.bytes.length).toBeLessThan(11 * MB);
      expect((await other().whole('rush', request)).bytes.equals(first.bytes)).toBe(true);
      expect(ledger.callsOf(request.key)).toBe(1);
    }, 60_000);
  });

  it(
    'one after the other, with clients that stay, leave and follow: no timer, no listener, no growing heap',
    async () => {
      const used = (share: number): Promise<void> => useUp(Math.round(STREAMS * share), `${share}`);
      await used(0.25); // code is compiled, pools are filled
      const before = await Promise.all(apps.map((app) => settled(app)));
      await used(0.75);
      const after = await Promise.all(apps.map((app) => settled(app)));
      for (const [i, { heapUsed, timers, subscribers }] of after.entries()) {
        const grown = heapUsed - before[i]!.heapUsed;
        const each = (grown / (STREAMS * 0.75) / 1024).toFixed(1);
        process.stdout.write(
          `${backend.name}, ${apps[i]!.config.adapter}: ${STREAMS} streams; heap ${(before[i]!.heapUsed / MB).toFixed(1)} → ` +
            `${(heapUsed / MB).toFixed(1)} MB (${each} KiB a stream), timers ${before[i]!.timers} → ${timers}\n`,
        );
        expect(subscribers).toBe(0);
        expect(timers).toBeLessThanOrEqual(before[i]!.timers + 5);
        // Pools and caches grow by something; what each stream left behind would add up, of more streams all the more.
        expect(grown).toBeLessThan(4 * MB + STREAMS * 2 * 1024);
        expect(apps[i]!.process.output).not.toContain('MaxListeners');
      }
    },
    60_000 + STREAMS * 200,
  );

  /** Each stream has a client that stays or one that leaves, and for every third a follower on the other process. */
  async function useUp(count: number, name: string): Promise<void> {
    const one = async (number: number): Promise<void> => {
      const [app, other] = number % 2 ? apps : [apps[1], apps[0]];
      const request = { key: `leak-${name}-${number}`, body: { n: 12, pause: 1 } };
      const path = number % 5 === 0 ? 'bytes' : 'tokens';
      const first = await app.open(path, request);
      const follower = number % 3 === 0 ? await other.open(path, request) : undefined;
      if (number % 4 < 2) first.leave();
      else await first.over();
      if (number % 7 === 0) follower?.leave();
      await follower?.over();
    };
    for (let done = 0; done < count; done += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => one(done + i)));
    }
  }

  /** When the last source has come to its end. */
  async function settled(app: StreamingApp): ReturnType<StreamingApp['collect']> {
    await eventually(async () => (await app.stats()).open === 1, 'the end of the responses');
    // Sources whose clients have left run on for a moment.
    let last = await app.collect();
    await eventually(async () => {
      const now = await app.collect();
      const isStill = Math.abs(now.heapUsed - last.heapUsed) < 64 * 1024;
      last = now;
      await new Promise((resolve) => setTimeout(resolve, 250));
      return isStill;
    }, 'a heap at rest');
    return last;
  }
});
