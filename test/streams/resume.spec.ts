import { eventually } from '../e2e/support/http-client.js';
import { describeServers, type Place } from '../processes/support/places.js';
import { Ledger } from './support/ledger.js';
import { BOOT_MS, killAll, numbersOf, startPair, upTo, type StreamingApp } from './support/streaming-apps.js';
import { randomFrom } from './support/random.js';

const ROUNDS = Number(process.env['STREAM_ROUNDS'] ?? 10);
const AT_ONCE = 10;
const TOKENS = 60;

const ADAPTERS = ['express', 'fastify'] as const;
const PAIRS = ADAPTERS.flatMap((from) => ADAPTERS.map((to) => [from, to] as const));

describeServers('a stream on two processes', (backend) => {
  let ledger: Ledger;
  let place: Place;
  let apps: StreamingApp[];

  beforeAll(async () => {
    ledger = await Ledger.open();
    place = await backend.open('streams-resume');
    const config = { store: place.store, ledger: ledger.url };
    // Two of each: the pairs include those of the same adapter.
    apps = (await Promise.all([startPair(config), startPair(config)])).flat();
  }, BOOT_MS);
  afterAll(async () => {
    await killAll(apps);
    await place?.close();
    ledger?.close();
  });

  describe.each(PAIRS)('produced on %s, retried on %s', (from, to) => {
    const of = (adapter: string): StreamingApp[] => apps.filter(({ config }) => config.adapter === adapter);
    const producer = (): StreamingApp => of(from)[0]!;
    const other = (): StreamingApp => of(to)[1]!;

    it.each([true, false])(
      `dropped at a random token, retried on the other process: nothing missing, nothing double, one call (Last-Event-ID: %s)`,
      async (resumes) => {
        const random = randomFrom(`${backend.name} ${from} ${to} ${resumes}`);
        const dropsAt: number[] = [];
        const round = async (index: number): Promise<void> => {
          const key = `drop-${from}-${to}-${resumes}-${index}`;
          const dropAt = random(TOKENS);
          const body = { n: TOKENS, pause: 5 + random(5) };
          const first = await producer().open('tokens', { key, body });
          await eventually(() => first.events.length >= dropAt, `token ${dropAt} of ${key}`);
          const seen = first.events;
          first.leave();
          dropsAt.push(seen.length);
          const retry = await other().whole('tokens', {
            key,
            body,
            lastEventId: resumes ? seen[seen.length - 1]!.id : undefined,
          });
          const all = resumes ? [...seen, ...retry.events] : retry.events;
          expect([key, dropAt, numbersOf(all)]).toEqual([key, dropAt, upTo(TOKENS)]);
          if (!resumes) expect(retry.events.slice(0, seen.length)).toEqual(seen);
          expect(new Set(all.map(({ id }) => id)).size).toBe(TOKENS);
          expect(retry.ended).toBe(true);
          expect(ledger.callsOf(key)).toBe(1);
        };
        for (let done = 0; done < ROUNDS; done += AT_ONCE) {
          const count = Math.min(AT_ONCE, ROUNDS - done);
          await Promise.all(Array.from({ length: count }, (_, index) => round(done + index)));
        }
        expect(dropsAt).toHaveLength(ROUNDS);
        // They were not all dropped at the end of the stream; how many a busy machine lets come so far is its affair.
        expect(dropsAt.filter((at) => at < TOKENS).length).toBeGreaterThan(ROUNDS / 10);
      },
      30_000 + ROUNDS * 500,
    );

    it('ten at once over both processes: one call, ten equal streams', async () => {
      const key = `ten-${from}-${to}`;
      const body = { n: 60, pause: 5 };
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, index) => (index % 2 ? other() : producer()).whole('tokens', { key, body })),
      );
      for (const answer of answers) {
        expect(numbersOf(answer.events)).toEqual(upTo(60));
        expect(answer.bytes.equals(answers[0]!.bytes)).toBe(true);
        expect(answer.ended).toBe(true);
      }
      expect(answers.filter(({ headers }) => headers['idempotent-replayed'] === 'true')).toHaveLength(9);
      expect(ledger.callsOf(key)).toBe(1);
    });
  });
});
