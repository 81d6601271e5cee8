import type { Results } from './results.js';
import type { Spread } from './statistics.js';

export interface Target {
  readonly name: string;
  /** As measured: a ratio, or megabytes where the name says so. */
  readonly ratio: number;
  readonly target: number;
  readonly met: boolean;
  /** Whether the measure is to be at least or at most the target. */
  readonly bound: 'at least' | 'at most';
  /** The middle half of what `ratio` is the median of; absent for a single measurement. */
  readonly spread?: readonly [from: number, to: number];
}

const TO_BARE: readonly (readonly [row: string, name: string, target: number])[] = [
  ['postgres', 'new key on Postgres / bare handler', 0.5],
  ['redis', 'new key on Redis / bare handler', 0.7],
  ['hotReplay', 'hot replay / bare handler', 0.95],
  ['firstReplay', 'replay from Postgres, first time in this process / bare handler', 0.5],
  ['undecorated', 'route without @Idempotent() / bare handler', 0.98],
];

const PAIRS: readonly (readonly [pair: string, name: string, target: number])[] = [
  ['postgres/driver', "new key on Postgres / driver's limit for claim + complete one by one", 1.5],
  ['redis/peer', 'new key on Redis / @node-idempotency/nestjs on Redis', 1.2],
];

const STREAMS_TARGET = 0.7;

/** What was measured beside what it should be. */
export function targetsOf(results: Results): Target[] {
  const targets: Target[] = [];
  for (const { adapter, rows, pairs } of results.throughput) {
    for (const [row, name, target] of TO_BARE) {
      const found = rows.find((one) => one.name === row);
      if (found) targets.push(atLeast(`${name} (${adapter})`, found.toBare, target));
    }
    for (const [pair, name, target] of PAIRS) {
      const found = pairs[pair];
      if (found) targets.push(atLeast(`${name} (${adapter})`, found, target));
    }
  }
  for (const { adapter, streams, rows } of results.streams) {
    for (const { server, toBare } of rows) {
      if (server === 'bare') continue;
      const name = `idempotent SSE / bare SSE, events a second over ${streams} streams (${adapter}, ${server})`;
      targets.push(atLeast(name, toBare, STREAMS_TARGET));
    }
  }
  const { small, large, ratio } = results.largeTable;
  const sizes = `claim with ${large.toLocaleString('en')} records / with ${small.toLocaleString('en')}, time`;
  targets.push(judged(sizes, ratio.median, 1.2, 'at most', ratio));
  for (const { store, few, many, growthMb } of results.memory) {
    const name = `memory after ${many.toLocaleString('en')} requests minus after ${few.toLocaleString('en')}, MB (${store})`;
    targets.push(judged(name, growthMb, 30, 'at most'));
  }
  return targets;
}

function atLeast(name: string, spread: Spread, target: number): Target {
  return judged(name, spread.median, target, 'at least', spread);
}

function judged(name: string, measured: number, target: number, bound: Target['bound'], spread?: Spread): Target {
  const ratio = rounded(measured);
  // By the figure that is shown: a reader must not find 0.98 beside "at least 0.98" and "missed".
  const met = bound === 'at least' ? ratio >= target : ratio <= target;
  return { name, ratio, target, met, bound, ...(spread && { spread: [rounded(spread.from), rounded(spread.to)] }) };
}

const rounded = (value: number): number => Math.round(value * 100) / 100;
