import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../e2e/support/http-client.js';
import { describeServers, type OwnServer, type Place } from '../processes/support/places.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { Ledger } from './support/ledger.js';
import { BOOT_MS, killAll, numbersOf, startPair, upTo, type StreamingApp } from './support/streaming-apps.js';

const DEADLINE_MS = 600;
const AWAY_MS = 2_000;

interface Fault {
  begin(server: OwnServer): unknown;
  end(server: OwnServer): unknown;
}
const faults: Record<string, Fault> = {
  frozen: { begin: (server) => server.pause(), end: (server) => server.resume() },
  cutOff: {
    async begin({ proxy }) {
      await proxy.refuse(true);
      proxy.cutAll();
    },
    end: ({ proxy }) => proxy.refuse(false),
  },
  repliesLost: {
    begin: ({ proxy }) => proxy.dropReplies(true),
    end: ({ proxy }) => proxy.dropReplies(false),
  },
};

describeServers('the store of a stream', (backend) => {
  let ledger: Ledger;
  let server: OwnServer;
  let apps: [StreamingApp, StreamingApp];

  beforeAll(async () => {
    ledger = await Ledger.open();
    server = await backend.own(DEADLINE_MS);
    apps = await startPair({ store: server.store, ledger: ledger.url });
  }, BOOT_MS);
  afterAll(async () => {
    await killAll(apps);
    await server?.close();
    ledger?.close();
  });

  /** Whatever was broken before: both applications work again. */
  async function untilWell(): Promise<void> {
    for (const app of apps) {
      const well = async (): Promise<boolean> =>
        (await app.send('tokens', { key: `well-${Math.random()}`, body: { n: 1 } })).status === 200;
      await eventually(well, 'the store is there', 15_000);
    }
  }

  it.each(Object.keys(faults))(
    `%s for 2 s in the middle: streams go on, nothing missing, nothing double`,
    async (name) => {
      await untilWell();
      const body = { n: 120, pause: 20 };
      const keys = apps.map((_, index) => `away-${name}-${index}`);
      const firsts = await Promise.all(apps.map((app, i) => app.open('tokens', { key: keys[i]!, body })));
      const followers = await Promise.all(apps.map((_, i) => apps[1 - i]!.open('tokens', { key: keys[i]!, body })));
      const all = [...firsts, ...followers];
      await eventually(() => all.every(({ events }) => events.length > 10), 'some events everywhere');
      await faults[name]!.begin(server);
      await sleep(AWAY_MS); // how long it is away
      // What is not recorded is not sent: nobody is near the end that the sources have reached by now.
      expect(Math.max(...all.map(({ events }) => events.length))).toBeLessThan(120);
      await faults[name]!.end(server);
      await Promise.all(all.map((one) => one.over()));
      for (const one of all) {
        expect(numbersOf(one.events)).toEqual(upTo(120));
        expect(one.ended).toBe(true);
      }
      await untilWell();
      for (const [index, key] of keys.entries()) {
        const retry = await apps[1 - index]!.whole('tokens', { key, body });
        expect(retry.bytes.equals(firsts[index]!.bytes)).toBe(true);
        expect(followers[index]!.bytes.equals(retry.bytes)).toBe(true);
        expect(ledger.callsOf(key)).toBe(1);
      }
    },
    60_000,
  );

  describe('refusals of an event stream have their status', () => {
    const body = { n: 3 };

    it('on a slow store: 400, 409, 410, 422', async () => {
      await untilWell();
      server.proxy.delay(100);
      try {
        await Promise.all(apps.map((app, index) => refusals(app, `slow-${index}`)));
      } finally {
        server.proxy.delay(0);
      }
    });

    async function refusals(app: StreamingApp, key: string): Promise<void> {
      const missing = await app.send('alone', { body });
      expect([missing.status, missing.json()['code']]).toEqual([400, 'idempotency_key_missing']);
      const release = ledger.hold(key);
      const running = app.open('alone', { key: key, body });
      await eventually(() => ledger.callsOf(key) === 1, 'the call of the model');
      const tooEarly = await app.send('alone', { key: key, body });
      expect([tooEarly.status, tooEarly.json()['code']]).toEqual([409, 'idempotency_in_progress']);
      expect(tooEarly.headers['content-type']).toBe('application/problem+json');
      release();
      const done = await (await running).over();
      expect(numbersOf(done.events)).toEqual([1, 2, 3]);
      const other = await app.send('alone', { key: key, body: { n: 4 } });
      expect([other.status, other.json()['code']]).toEqual([422, 'idempotency_key_reused']);
      const malformed = await app.send('alone', { key: key, body, lastEventId: 'abc' });
      expect(malformed.status).toBe(400);
      const lastEventId = done.events[1]!.id;
      expect(await app.forget('alone', key)).toBe(true);
      const gone = await app.send('alone', { key: key, body, lastEventId });
      expect(gone.status).toBe(410);
      expect(ledger.callsOf(key)).toBe(1);
    }

    it.each(['frozen', 'cutOff'])(
      '%s: 503 in time, with and without a cursor; the model is not called',
      async (name) => {
        await untilWell();
        const done = await apps[0].whole('tokens', { key: `dead-done-${name}`, body });
        await faults[name]!.begin(server);
        try {
          for (const [index, app] of apps.entries()) {
            for (const lastEventId of [undefined, done.events[0]!.id]) {
              const key = `dead-${name}-${index}`;
              const answer = await app.send('tokens', { key, body, lastEventId });
              expect([answer.status, answer.json()['code']]).toEqual([503, 'idempotency_store_unavailable']);
              expect(answer.headers['content-type']).toBe('application/problem+json');
              expect(ledger.callsOf(key)).toBe(0);
            }
          }
        } finally {
          await faults[name]!.end(server);
        }
        await untilWell();
      },
      60_000,
    );
  });

  it('cancel() from the other process ends it for everybody, the same now and later', async () => {
    await untilWell();
    for (const [index, app] of apps.entries()) {
      const request = { key: `cancelled-${index}`, body: { n: 100_000, pause: 10 } };
      const other = apps[1 - index]!;
      const first = await app.open('tokens', request);
      const follower = await other.open('tokens', request);
      await eventually(() => first.events.length > 3 && follower.events.length > 3, 'some events');
      expect(await other.cancel('tokens', request.key)).toBe(true);
      await Promise.all([first.over(), follower.over()]);
      expect(first.events[first.events.length - 1]).toMatchObject({ event: 'idempotency.cancelled' });
      for (const one of [follower, await app.whole('tokens', request), await other.whole('tokens', request)]) {
        expect(one.bytes.equals(first.bytes)).toBe(true);
      }
      expect(ledger.callsOf(request.key)).toBe(1);
    }
  });
});

describeServers('streams without any hints', (backend) => {
  let ledger: Ledger;
  let place: Place;
  let hints: TcpProxy | undefined;
  let apps: [StreamingApp, StreamingApp];

  beforeAll(async () => {
    ledger = await Ledger.open();
    place = await backend.open('streams-no-hints');
    let { store } = place;
    if (store.kind === 'postgres') store = { ...store, notify: false };
    if (store.kind === 'redis') {
      // The subscriber goes another way to the server, and that way is closed once it is there.
      const url = new URL(store.url);
      hints = await startProxy(Number(url.port || 6379));
      url.port = String(hints.port);
      store = { ...store, hintsUrl: url.href };
    }
    apps = await startPair({ store, ledger: ledger.url });
    await hints?.refuse(true);
    hints?.cutAll();
  }, BOOT_MS);
  afterAll(async () => {
    await killAll(apps);
    await hints?.close();
    await place?.close();
    ledger?.close();
  });

  it('followers on the other process get all of it, live, and to its end', async () => {
    for (const [index, app] of apps.entries()) {
      const request = { key: `no-hints-${index}`, body: { n: 100, pause: 10 } };
      const first = await app.open('tokens', request);
      await eventually(() => first.events.length > 3, 'some events');
      const followers = await Promise.all([0, 1, 2].map(() => apps[1 - index]!.open('tokens', request)));
      await eventually(() => followers.every(({ events }) => events.length > 10), 'events for followers');
      expect(first.ended).toBe(false);
      await Promise.all([first, ...followers].map((one) => one.over()));
      for (const one of [first, ...followers]) expect(numbersOf(one.events)).toEqual(upTo(100));
      expect(ledger.callsOf(request.key)).toBe(1);
    }
  });
});
