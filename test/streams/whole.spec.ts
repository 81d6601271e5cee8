import { eventually } from '../e2e/support/http-client.js';
import { describeServers, type Place } from '../processes/support/places.js';
import { noise } from './fixtures/sources.js';
import { openUnread } from './support/slow-reader.js';
import { Ledger } from './support/ledger.js';
import { BOOT_MS, killAll, startPair, type StreamingApp } from './support/streaming-apps.js';

const BIG = 12 * 1024 * 1024;

describeServers('a retry after the end of a stream, on the other process', (backend) => {
  let ledger: Ledger;
  let place: Place;
  let apps: [StreamingApp, StreamingApp];

  beforeAll(async () => {
    ledger = await Ledger.open();
    place = await backend.open('streams-whole');
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

    it.each([
      ['tokens', 30],
      ['lines', 20],
      ['raw', 12],
      ['bytes', 60],
    ])('%s: identical bytes, status and kind, on either process; one call', async (path, n) => {
      const request = { key: `whole-${path}-${index}`, body: { n, pause: 4 } };
      const first = await producer().whole(path, request);
      expect([first.ended, first.headers['idempotency-stream']]).toEqual([true, 'live']);
      for (const app of [other(), producer()]) {
        const retry = await app.whole(path, request);
        expect(retry.bytes.equals(first.bytes)).toBe(true);
        expect([retry.status, retry.headers['content-type']]).toEqual([first.status, first.headers['content-type']]);
        expect(retry.headers['idempotency-stream']).toBe('complete');
        expect([retry.ended, retry.headers['idempotent-replayed']]).toEqual([true, 'true']);
      }
      expect(ledger.callsOf(request.key)).toBe(1);
    });

    it('data of many lines and characters that were cut in the middle arrive as they were meant', async () => {
      const lines = await other().whole('lines', { key: `whole-lines-${index}`, body: { n: 20, pause: 4 } });
      const salt = lines.events[0]!.data.split('-')[0]!;
      expect(lines.events.map(({ data, event }) => [event, data])).toEqual(
        Array.from({ length: 20 }, (_, i) => ['thing', `${salt}-${i + 1}\n👩‍👩‍👧\n\n{"a": 1}`]),
      );
      const raw = await other().whole('raw', { key: `whole-raw-${index}`, body: { n: 12, pause: 4 } });
      const rawSalt = raw.events[0]!.data.split('-')[0]!;
      expect(raw.events.map(({ data }) => data)).toEqual(
        Array.from({ length: 12 }, (_, i) => `${rawSalt}-${i + 1} 👩‍👩‍👧 é 😀\n👩‍👩‍👧 é 😀`),
      );
    });

    it('bytes of any value arrive as they were made', async () => {
      const { bytes } = await other().whole('bytes', { key: `whole-bytes-${index}`, body: { n: 60, pause: 4 } });
      const made: Buffer[] = [];
      for await (const piece of noise({ n: 60, pause: 0 }, seedOf(bytes))) made.push(piece);
      expect(bytes.equals(Buffer.concat(made))).toBe(true);
    });

    it('12 MB reach a slow reader whole: live, as a follower, and after the end', async () => {
      const request = { key: `big-${index}`, body: { n: 12 } };
      const first = await openUnread(producer().process.url, 'big', request);
      const follower = await openUnread(other().process.url, 'big', request);
      // Nobody reads; the source goes on to its end all the same.
      const completed = async (): Promise<boolean> => (await other().find('big', request.key))?.state === 'completed';
      await eventually(completed, 'the end of the source', 30_000);
      const late = await openUnread(other().process.url, 'big', request);
      const unread = await Promise.all(apps.map((app) => app.stats()));
      const [whole, ...others] = await Promise.all([first, follower, late].map((one) => one.read()));
      expect(whole!.length).toBe(BIG);
      for (const bytes of others) expect(bytes.equals(whole!)).toBe(true);
      for (const { rss } of unread) expect(rss).toBeLessThan(700 * 1024 * 1024);
      expect(ledger.callsOf(request.key)).toBe(1);
    }, 90_000);
  });
});

/** The first piece is one byte: the seed. */
function seedOf(bytes: Buffer): number {
  return bytes[0]!;
}
