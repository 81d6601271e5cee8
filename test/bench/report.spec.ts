import { readArguments } from '../../bench/arguments.js';
import { chartOf } from '../../bench/report/chart.js';
import { withFigures } from '../../bench/report/page.js';
import type { Results } from '../../bench/report/results.js';
import { spreadOf, type Spread } from '../../bench/report/statistics.js';
import { targetsOf } from '../../bench/report/targets.js';
import { textOf } from '../../bench/report/text.js';

const sharp = (median: number): Spread => ({ median, from: median - 0.1, to: median + 0.1, samples: 3 });
const row = (name: string, toBare: number) => ({
  ...{ name, label: `<${name}>`, perSecond: sharp(1_000), cpuMicros: 100 },
  toBare: sharp(toBare),
});

const results: Results = {
  mode: 'quick',
  measuredAt: '2026-01-02T03:04:05.000Z',
  machine: { cpu: 'some processor', cores: 2, memoryGb: 8, node: 'v22.0.0' },
  notRun: ['everything on Redis: there is none.'],
  throughput: [
    {
      adapter: 'express',
      rows: [row('bare', 1), row('postgres', 0.496), row('undecorated', 0.974)],
      pairs: { 'postgres/driver': sharp(1.7) },
    },
  ],
  latency: [],
  streams: [
    {
      adapter: 'express',
      streams: 100,
      rows: [
        { server: 'bare', eventsPerSecond: sharp(9_000), toBare: sharp(1) },
        { server: 'postgres', eventsPerSecond: sharp(6_300), toBare: sharp(0.7) },
      ],
    },
  ],
  items: [{ store: 'postgres', atOnce: 256, perSecond: sharp(4_000), toOne: sharp(8) }],
  pgbench: undefined,
  largeTable: { small: 10, large: 1_000, smallMs: sharp(1), largeMs: sharp(2), ratio: sharp(1.3) },
  memory: [
    {
      ...{ store: 'redis', few: 10, many: 1_000, growthMb: 12 },
      afterFew: { usedMb: 40, residentMb: 100 },
      afterMany: { usedMb: 52, residentMb: 120 },
    },
  ],
};

describe("the bench's report", () => {
  it('takes the median and the middle half', () => {
    expect(spreadOf([5, 1, 3, 2, 4])).toEqual({ median: 3, from: 2, to: 4, samples: 5 });
    expect(spreadOf([1, 2])).toEqual({ median: 1.5, from: 1.25, to: 1.75, samples: 2 });
  });

  it('judges by the figure that it shows, in the direction of the target', () => {
    const targets = targetsOf(results);
    expect(targets.map(({ name, ratio, target, met }) => [name, ratio, target, met])).toEqual([
      ['new key on Postgres / bare handler (express)', 0.5, 0.5, true],
      ['route without @Idempotent() / bare handler (express)', 0.97, 0.98, false],
      ["new key on Postgres / driver's limit for claim + complete one by one (express)", 1.7, 1.5, true],
      ['idempotent SSE / bare SSE, events a second over 100 streams (express, postgres)', 0.7, 0.7, true],
      ['claim with 1,000 records / with 10, time', 1.3, 1.2, false],
      ['memory after 1,000 requests minus after 10, MB (redis)', 12, 30, true],
    ]);
  });

  it('says what did not run, and what was missed', () => {
    const text = textOf(results, targetsOf(results));
    expect(text).toContain('**NOT RUN:** everything on Redis: there is none.');
    expect(text).toContain(
      '| route without @Idempotent() / bare handler (express) | 0.97 | 0.87 – 1.07 | ≥ 0.98 | **no** |',
    );
    expect(text).toContain('| postgres, 256 at once | 4,000 | 8.00 | 7.90 – 8.10 |');
  });

  it('draws a bar for each variant that was measured', () => {
    const chart = chartOf(results.throughput[0]!, 'a & b');
    expect(chart.match(/<rect x=/g)).toHaveLength(3);
    expect(chart).toContain('&lt;postgres&gt;');
    expect(chart).toContain('a &amp; b');
  });

  it('replaces the figures of the page, and nothing else', () => {
    const page = 'before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n';
    expect(withFigures(page, 'new')).toBe('before\n<!-- figures -->\n\nnew\n\n<!-- end of figures -->\nafter\n');
    expect(() => withFigures('no marks', 'new')).toThrow('figures');
  });

  it('keeps the figures of a full run only', () => {
    expect(readArguments(['--quick', '--json'])).toMatchObject({ quick: true, json: true, write: false });
    expect(() => readArguments(['--quick', '--write'])).toThrow('--write');
    expect(() => readArguments(['--fast'])).toThrow('--fast');
  });
});
