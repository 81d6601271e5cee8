import { expectReplayOf, isReplay } from './support/answers.js';
import { Applications, BOOT_MS, jobOf } from './support/applications.js';
import { canaryOf } from './support/canary.js';
import { Desk } from './support/desk.js';
import { describeStores, type Place } from './support/places.js';

const TENANTS = Array.from({ length: 50 }, (_, index) => `tenant-${index}`);
const KEYS = ['order-1', 'order-2', 'order-3'];

/** Pairs that are one text once they are joined by something, and names that mean something elsewhere. */
const HOSTILE: readonly (readonly [scope: string, key: string])[] = [
  ...[':', '/', ';', '"', '|', ',', ' ', '.', '-', '_', '::', '%3A', '}{', '\\', '","'].flatMap((delimiter) => [
    [`a${delimiter}b`, 'c'] as const,
    ['a', `b${delimiter}c`] as const,
    [`a${delimiter}b${delimiter}c`, 'd'] as const,
    [`a${delimiter}b`, `c${delimiter}d`] as const,
    // What stands between the two in a name made of all three parts.
    [`e${delimiter}POST /jobs/plain${delimiter}f`, 'g'] as const,
    ['e', `f${delimiter}POST /jobs/plain${delimiter}g`] as const,
  ]),
  ...['\0', '\n', '\r\n', '\u2028', 'ä', 'a\u0308', '😀', '\ud800'].map((odd) => [`a${odd}b`, 'c'] as const),
  ...['1', '01', '1.0', 'true', 'null', 'undefined', '__proto__', 'constructor', 'global'].flatMap((name) => [
    [name, 'k'] as const,
    ['k', name] as const,
  ]),
  ...["' OR 1=1 --", '*', '%', '_%', '?', '[a-z]*', '$1', '${1}', '../..'].flatMap((text) => [
    [text, 'k2'] as const,
    ['k2', text] as const,
  ]),
  ['1:a', 'b'],
  ['1', 'a1:b'],
  ['A', 'Case'],
  ['a', 'Case'],
  ['a', 'case'],
  ['record', 'x'.repeat(255)],
  ['record'.repeat(50), 'x'.repeat(254)],
];

describeStores('tenants that choose the same keys, and keys that pretend to be others', (backend) => {
  let desk: Desk;
  let place: Place;
  let apps: Applications;

  beforeAll(async () => {
    desk = await Desk.open();
    place = await backend.open('tenants');
    apps = await Applications.start(Math.min(backend.processes, 2), desk, { store: place.store });
  }, BOOT_MS);

  afterAll(async () => {
    await apps?.close();
    await place?.close();
    desk?.close();
  });

  it('get their own answers only, on every process', async () => {
    const ordinary = TENANTS.flatMap((scope) => KEYS.map((key) => [scope, key] as const));
    // What cannot be sent is no pair: an odd half of a character arrives as another one.
    const pairs = [...ordinary, ...HOSTILE].map(([scope, key]) => [Buffer.from(scope).toString(), key] as const);
    expect(new Set(pairs.map((pair) => JSON.stringify(pair))).size).toBe(pairs.length);

    // All at once, in no order of theirs, and everybody's request is the same but for who sends it.
    const firsts = await Promise.all(
      pairs.map(([scope, key], index) => apps.at(index).job('plain', { key, scope, body: { amount: 100 } })),
    );
    const seconds = await Promise.all(
      pairs.map(([scope, key], index) => apps.at(index + 1).job('plain', { key, scope, body: { amount: 100 } })),
    );
    for (const [index, [scope, key]] of pairs.entries()) {
      const first = firsts[index]!;
      expect(jobOf(first)).toMatchObject({ scope, key, canary: canaryOf(scope, key), attempt: 1 });
      expect(isReplay(first)).toBe(false);
      expectReplayOf(first, seconds[index]!);
    }
    expect(new Set(firsts.map((first) => jobOf(first).run)).size).toBe(pairs.length);
    expect(new Set(firsts.map((first) => jobOf(first).downstreamKey)).size).toBe(pairs.length);
    expect(desk.runs).toHaveLength(pairs.length);
  }, 60_000);

  it("another operation is another record, also with the same tenant's same key", async () => {
    const [plain, join] = [
      await apps.at(0).job('plain', { key: 'twice' }),
      await apps.at(1).job('join', { key: 'twice' }),
    ];
    expect(jobOf(plain).route).toBe('plain');
    expect(jobOf(join).route).toBe('join');
    expect(desk.runsOf('twice')).toHaveLength(2);
  });
});
