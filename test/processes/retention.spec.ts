import { eventually } from '../e2e/support/http-client.js';
import { codeOf, expectReplayOf, isReplay } from './support/answers.js';
import { Applications, BOOT_MS, jobOf } from './support/applications.js';
import { Desk } from './support/desk.js';
import { describeServers, type Place } from './support/places.js';

/** Of the route `short`. */
const RETENTION_MS = 700;
const MAX_AGE_MS = 1_500;

describeServers('records that end', (backend) => {
  let desk: Desk;
  let place: Place;
  let apps: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('retention');
    apps = await Applications.start(2, desk, {
      store: place.store,
      idempotency: { purge: { every: '100ms', batch: 20 }, replayCache: { maxAge: '1h' } },
    });
  }, BOOT_MS);

  afterAll(async () => {
    await apps?.close();
    await place?.close();
    desk?.close();
  });

  it('after its retention a key runs again: attempt 1, greater fencing token, another record', async () => {
    const key = 'again';
    const first = await apps.at(0).job('short', { key });
    const firstSeen = Date.now();
    let replays = 0;
    let second = first;
    // Process 0 has the answer in memory for an hour, and yet not for longer than the record lives.
    for (const until = Date.now() + 15_000; Date.now() < until;) {
      second = await apps.at(0).job('short', { key });
      if (!isReplay(second)) break;
      expectReplayOf(first, second);
      replays += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(replays).toBeGreaterThan(0);
    expect(Date.now() - jobOf(first).endedAt).toBeGreaterThanOrEqual(RETENTION_MS);
    expect(Date.now() - firstSeen).toBeLessThan(15_000);
    const [one, two] = [jobOf(first), jobOf(second)];
    expect(two).toMatchObject({ attempt: 1 });
    expect(two.run).not.toBe(one.run);
    expect(two.fencingToken).toBeGreaterThan(one.fencingToken);
    expect(two.downstreamKey).not.toBe(one.downstreamKey);
    expect(desk.runsOf(key)).toHaveLength(2);
  }, 60_000);

  it('are removed by themselves while requests run, and nothing else is', async () => {
    const goOn = desk.hold('runs-meanwhile');
    const running = apps.at(0).job('short', { key: 'runs-meanwhile' });
    await desk.untilRuns('runs-meanwhile', 1);
    const kept = await apps.at(0).job('plain', { key: 'kept' });
    const before = await place.records();

    for (let burst = 0; burst < 8; burst++) {
      const keys = Array.from({ length: 25 }, (_, index) => `purged-${burst}-${index}`);
      const answers = await Promise.all(keys.map((key, index) => apps.at(index).job('short', { key })));
      for (const answer of answers) expect(jobOf(answer).attempt).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(await place.records()).toBeGreaterThan(0);
    // The one that runs, the one that is kept, and nothing of the two hundred.
    await eventually(async () => (await place.records()) <= 2, 'the expired ones are gone', 15_000);
    expect(before).toBeGreaterThanOrEqual(2);
    expect(await place.records()).toBe(2);
    for (let n = 0; n < 8; n++) expect(desk.runsOf(`purged-${n}-0`)).toHaveLength(1);

    goOn();
    expect(jobOf(await running)).toMatchObject({ attempt: 1, key: 'runs-meanwhile' });
    expectReplayOf(kept, await apps.at(1).job('plain', { key: 'kept' }));
    expect(apps.all.map(({ process }) => process.output).join('')).not.toContain('Purge failed');
  }, 60_000);
});

describeServers('answers that a process keeps in memory', (backend) => {
  let desk: Desk;
  let place: Place;
  let apps: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('replay-cache');
    const { store } = place;
    apps = await Applications.start(2, desk, { store, idempotency: { replayCache: { maxAge: MAX_AGE_MS } } });
    const uncached = await Applications.start(1, desk, { store, idempotency: { replayCache: false } });
    apps.all.push(...uncached.all);
  }, BOOT_MS);

  afterAll(async () => {
    await apps?.close();
    await place?.close();
    desk?.close();
  });

  it('are given without the store, and forget in another process is seen within maxAge', async () => {
    const key = 'forgotten';
    const [caching, other] = apps.all;
    const first = await caching!.job('plain', { key });
    const claims = (await caching!.stats()).claims;
    const cachedAt = performance.now();
    for (let burst = 0; burst < 20; burst++) expectReplayOf(first, await caching!.job('plain', { key }));
    // The cache works at all, or what follows would show nothing.
    if (performance.now() - cachedAt < MAX_AGE_MS / 2) expect((await caching!.stats()).claims).toBe(claims);

    expect(await other!.forget('plain', key)).toBe(true);
    const forgottenAt = performance.now();
    let answer = first;
    let lastReplayMs = 0;
    for (;;) {
      const askedAt = performance.now();
      answer = await caching!.job('plain', { key });
      if (!isReplay(answer)) break;
      expectReplayOf(first, answer);
      lastReplayMs = askedAt - forgottenAt;
      expect(lastReplayMs).toBeLessThan(MAX_AGE_MS);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(jobOf(answer)).toMatchObject({ attempt: 1, key });
    expect(desk.runsOf(key)).toHaveLength(2);
  }, 60_000);

  it('are not kept with replayCache: false: forget is seen at once, and every replay asks the store', async () => {
    const key = 'not-cached';
    const [other, , uncached] = apps.all;
    const first = await uncached!.job('plain', { key });
    const { claims } = await uncached!.stats();
    for (let n = 0; n < 5; n++) expectReplayOf(first, await uncached!.job('plain', { key }));
    expect((await uncached!.stats()).claims).toBe(claims + 5);
    expect(await other!.forget('plain', key)).toBe(true);
    expect(isReplay(await uncached!.job('plain', { key }))).toBe(false);
    expect(desk.runsOf(key)).toHaveLength(2);
  });
});

describeServers('processes with and without rawBody', (backend) => {
  let desk: Desk;
  let place: Place;
  let plain: Applications;
  let raw: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('raw-body');
    [plain, raw] = await Promise.all([
      Applications.start(2, desk, { store: place.store, rawBody: false }),
      Applications.start(2, desk, { store: place.store, rawBody: true }),
    ]);
  }, BOOT_MS);

  afterAll(async () => {
    await plain?.close();
    await raw?.close();
    await place?.close();
    desk?.close();
  });

  it('see one request in a body written in two ways, and in that of a process with the other setting', async () => {
    const written = [
      '{"amount":100,"items":[{"id":1,"note":"é"}]}',
      '{ "items": [{"note":"\\u00e9","id":1.0}], "amount": 1e2 }',
    ];
    const first = await plain.at(0).job('plain', { key: 'same', body: written[0] });
    expect(jobOf(first).attempt).toBe(1);
    for (const app of [...plain.all, ...raw.all]) {
      for (const body of written) expectReplayOf(first, await app.job('plain', { key: 'same', body }));
      const other = await app.job('plain', { key: 'same', body: '{"amount":101,"items":[{"id":1,"note":"é"}]}' });
      expect(codeOf(other)).toBe('idempotency_key_reused');
      expect(other.status).toBe(422);
    }
    expect(desk.runsOf('same')).toHaveLength(1);
  });

  it('tell numbers apart that are one to JavaScript, where the raw body is at hand', async () => {
    const [small, large] = ['{"amount":9007199254740992}', '{"amount":9007199254740993}'];
    const first = await raw.at(0).job('plain', { key: 'large', body: small });
    expect(jobOf(first).attempt).toBe(1);
    for (const app of raw.all) {
      expect(codeOf(await app.job('plain', { key: 'large', body: large }))).toBe('idempotency_key_reused');
      expectReplayOf(first, await app.job('plain', { key: 'large', body: small }));
    }
    expect(desk.runsOf('large')).toHaveLength(1);
  });
});
