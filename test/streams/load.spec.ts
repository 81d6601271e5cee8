import { Agent, request } from 'node:http';
import { eventually } from '../e2e/support/http-client.js';
import { describeServers, type Place } from '../processes/support/places.js';
import { Stalls } from '../processes/support/stalls.js';
import { BOOT_MS, killAll, StreamingApp } from './support/streaming-apps.js';

/**
 * What is measured is printed. That it does not grow without end is asserted: a machine that is busy
 * with other test files has Postgres at its limit long before that.
 */
const LONGEST_P99_MS = 10_000;

/** How many at once; each has 20 events a second. */
const STREAMS = Number(process.env['STREAM_LOAD'] ?? 500);
const SECONDS = Number(process.env['STREAM_LOAD_SECONDS'] ?? 4);
const EVENTS = SECONDS * 20;
const MB = 1024 * 1024;

describeServers('many streams at once in one process', (backend) => {
  let place: Place;
  let app: StreamingApp;
  let stalls: Stalls;

  beforeAll(async () => {
    stalls = new Stalls();
    place = await backend.open('streams-load');
    const adapter = backend.name === 'postgres' ? 'express' : 'fastify';
    app = await StreamingApp.start({ adapter, store: place.store, ledger: 'http://127.0.0.1:9' });
  }, BOOT_MS);
  afterAll(async () => {
    if (app) await killAll([app]);
    await place?.close();
    stalls?.stop();
  });

  it(
    'all are whole, their events come in time, and nothing is left of them',
    async () => {
      await Promise.all(Array.from({ length: 10 }, (_, index) => delaysOf(app, `warm-${index}`, 20)));
      const before = await app.stats();
      stalls.take();
      let over = false;
      const streams = Promise.all(
        Array.from({ length: STREAMS }, (_, index) => delaysOf(app, `load-${index}`, EVENTS)),
      ).finally(() => (over = true));
      let peak = before.rss;
      await eventually(
        async () => {
          peak = Math.max(peak, (await app.stats()).rss);
          return over;
        },
        'the end of the streams',
        60_000,
      );
      const delays = (await streams).flatMap((one) => {
        expect(one).toHaveLength(EVENTS);
        return one;
      });
      delays.sort((a, b) => a - b);
      const at = (share: number): number => delays[Math.floor((delays.length - 1) * share)]!;
      const clientStall = stalls.take();
      // The response that tells is the one that is open.
      await eventually(async () => (await app.stats()).open === 1, 'the end of the responses');
      const after = await app.stats();
      process.stdout.write(
        `${backend.name}: ${STREAMS} streams of 20 events/s: delay p50 ${at(0.5).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms, ` +
          `max ${at(1).toFixed(1)} ms; longest stall of the client ${clientStall.toFixed(0)} ms; rss before ${mb(before.rss)}, ` +
          `peak ${mb(peak)}, after ${mb(after.rss)}; heap before ${mb(before.heapUsed)}, after ${mb(after.heapUsed)} MB\n`,
      );
      expect(at(0.99)).toBeLessThan(LONGEST_P99_MS + clientStall);
      expect(peak - before.rss).toBeLessThan((150 + STREAMS) * MB);
      expect(after.subscribers).toBe(0);
      expect(app.process.output).not.toContain('MaxListeners');
    },
    60_000 + SECONDS * 2_000,
  );
});

function mb(bytes: number): string {
  return (bytes / MB).toFixed(0);
}

/** How long each event of a stream was under way, in milliseconds. */
function delaysOf(app: StreamingApp, key: string, n: number): Promise<number[]> {
  const delays: number[] = [];
  const body = JSON.stringify({ n, pause: 50 });
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': body.length, 'idempotency-key': key };
    const options = { method: 'POST', agent: new Agent({ keepAlive: false }), headers };
    const sent = request(`${app.process.url}/s/stamps`, options, (response) => {
      let rest = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        const now = performance.timeOrigin + performance.now();
        const frames = (rest + text).split('\n\n');
        rest = frames.pop()!;
        for (const frame of frames) {
          const stamp = /^data: ([\d.]+)$/m.exec(frame)?.[1];
          if (stamp !== undefined) delays.push(now - Number(stamp));
        }
      });
      response.on('end', () => resolve(delays));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
