import { EventSource } from 'eventsource';
import { eventually, send } from '../e2e/support/http-client.js';
import { describeServers, type Place } from '../processes/support/places.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { Ledger } from './support/ledger.js';
import { randomFrom } from './support/random.js';
import { BOOT_MS, killAll, startPair, upTo, type StreamingApp } from './support/streaming-apps.js';

const TOKENS = 150;

describeServers('a browser’s EventSource, with its key in the query', (backend) => {
  let ledger: Ledger;
  let place: Place;
  let apps: [StreamingApp, StreamingApp];
  let proxies: TcpProxy[] = [];

  beforeAll(async () => {
    ledger = await Ledger.open();
    place = await backend.open('streams-browser');
    apps = await startPair({ store: place.store, ledger: ledger.url });
    proxies = await Promise.all(apps.map(({ process }) => startProxy(process.port)));
  }, BOOT_MS);
  afterAll(async () => {
    await Promise.all(proxies.map((proxy) => proxy.close()));
    await killAll(apps);
    await place?.close();
    ledger?.close();
  });

  const urlOf = (key: string, n = TOKENS): string => `/s/browser?key=${key}&n=${n}&pause=10`;

  /** The client, whose every connection goes to the other process, and what it has heard. */
  function listen(key: string): { source: EventSource; heard: string[]; statuses: number[] } {
    const heard: string[] = [];
    const statuses: number[] = [];
    const source = new EventSource(`http://balanced${urlOf(key)}`, {
      fetch: async (url, init) => {
        const { pathname, search } = new URL(url);
        const { port } = proxies[statuses.length % proxies.length]!;
        const response = await fetch(`http://127.0.0.1:${port}${pathname}${search}`, init);
        statuses.push(response.status);
        return response;
      },
    });
    source.addEventListener('message', ({ data }) => heard.push(String(data)));
    return { source, heard, statuses };
  }

  it('its connection is cut again and again: it resumes by itself, and stops when it has heard the end', async () => {
    const random = randomFrom(`browser ${backend.name}`);
    const { source, heard, statuses } = listen('tab');
    try {
      for (let cuts = 0; cuts < 5; cuts++) {
        const until = heard.length + random(10);
        await eventually(() => heard.length >= until, `${until} events`);
        for (const proxy of proxies) proxy.cutAll();
      }
      await eventually(() => source.readyState === EventSource.CLOSED, 'the end', 30_000);
    } finally {
      source.close();
    }
    expect(heard.map((data) => Number(data.split('-')[1]))).toEqual(upTo(TOKENS));
    expect(new Set(heard.map((data) => data.split('-')[0])).size).toBe(1);
    // At least one after each cut, and the one that sent it away.
    expect(statuses.length).toBeGreaterThanOrEqual(7);
    expect(statuses[statuses.length - 1]).toBe(204);
    expect(new Set(statuses.slice(0, -1))).toEqual(new Set([200]));
    expect(ledger.callsOf('tab')).toBe(1);
  }, 60_000);

  it('HEAD calls and records nothing, before the GET and after it', async () => {
    for (const [index, app] of apps.entries()) {
      const url = `${app.process.url}${urlOf(`head-${index}`, 5)}`;
      const head = async (): Promise<void> => {
        const { status, headers, text } = await send(url, { method: 'HEAD' });
        expect([status, headers['content-type'], text]).toEqual([200, 'text/event-stream', '']);
        expect(headers['idempotency-stream']).toBeUndefined();
      };
      await head();
      const whole = await send(url, { method: 'GET' });
      expect(whole.headers['idempotent-replayed']).toBeUndefined();
      expect(whole.text.match(/^data: /gm)).toHaveLength(5);
      await head();
      const again = await send(url, { method: 'GET' });
      expect([again.headers['idempotent-replayed'], again.text]).toEqual(['true', whole.text]);
      expect(ledger.callsOf(`head-${index}`)).toBe(1);
    }
  });

  it('OPTIONS calls nothing', async () => {
    for (const [index, app] of apps.entries()) {
      await send(`${app.process.url}${urlOf(`options-${index}`, 5)}`, { method: 'OPTIONS' });
      expect(ledger.callsOf(`options-${index}`)).toBe(0);
    }
  });
});
