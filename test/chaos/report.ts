import { INVARIANTS } from './checker/check.js';
import type { ChaosResult } from './chaos.js';
import { STREAM_RULES } from './streams/check.js';
import type { StreamChaosResult } from './streams/stream-chaos.js';

const MOST_SHOWN = 20;

export interface RunName {
  readonly store: string;
  readonly mode: string;
  readonly seconds: number;
  readonly seed: number;
}

type Counts = Readonly<Record<string, number>>;

/** What a run did and found, in numbers. */
export interface Summary extends RunName {
  readonly passed: boolean;
  /** Of what there was: requests, keys, effects and so on. */
  readonly totals: Counts;
  readonly faults: Counts;
  /** What clients were told, or how readings ended. */
  readonly answers: Counts;
  readonly windows: Counts;
  readonly missed: readonly string[];
  readonly violations: number;
}

export interface Report {
  readonly text: string;
  readonly summary: Summary;
}

interface Findings {
  readonly violations: readonly { readonly invariant: string; readonly subject: string; readonly what: string }[];
  readonly windows: readonly { readonly name: string; readonly hits: number; readonly atLeast: number }[];
}

/** A run for people, and in numbers. */
export function report(name: RunName, { history, violations, windows, faults }: ChaosResult): Report {
  const { events } = history;
  const requests = events.filter((event) => event.type === 'request');
  const effects = events.filter((event) => event.type === 'effect').length;
  const marks = tally(events.flatMap((event) => (event.type === 'mark' ? [event.what] : [])));
  const injected = { ...Object.fromEntries(faults), ...onlyCrashes(marks) };
  const keys = new Set(requests.map(({ subject }) => subject)).size;
  const answers = tally(requests.map(({ answer }) => answer.kind));
  return write(name, { requests: requests.length, keys, effects }, injected, answers, INVARIANTS, {
    violations,
    windows,
  });
}

export function reportStreams(name: RunName, { history, violations, windows, faults }: StreamChaosResult): Report {
  const { events } = history;
  const readings = events.filter((event) => event.type === 'reading');
  const calls = events.filter((event) => event.type === 'call').length;
  const marks = tally(events.flatMap((event) => (event.type === 'mark' ? [event.what] : [])));
  const injected = { ...Object.fromEntries(faults), ...onlyCrashes(marks) };
  const keys = new Set(readings.map(({ key }) => key)).size;
  const ends = tally(readings.map(({ end }) => end));
  return write(name, { readings: readings.length, keys, calls }, injected, ends, STREAM_RULES, { violations, windows });
}

function write(
  name: RunName,
  totals: Counts,
  faults: Counts,
  answers: Counts,
  rules: Readonly<Record<string, string>>,
  { violations, windows }: Findings,
): Report {
  const missed = windows.filter(({ hits, atLeast }) => hits < atLeast).map((window) => window.name);
  const text = [
    'faults:',
    ...lines(faults),
    'answers:',
    ...lines(answers),
    'windows (hits, of at least):',
    ...windows.map(({ name: what, hits, atLeast }) => {
      return `  ${hits < atLeast ? 'MISSED ' : ''}${what}: ${hits} of ${atLeast}`;
    }),
    `violations: ${violations.length}`,
    ...violations.slice(0, MOST_SHOWN).map(({ invariant, subject, what }) => `  ${invariant} ${subject}: ${what}`),
    ...(violations.length > MOST_SHOWN ? [`  … and ${violations.length - MOST_SHOWN} more`] : []),
    ...[...new Set(violations.map(({ invariant }) => invariant))].map((rule) => `  ${rule} is: ${rules[rule]}`),
  ].join('\n');
  const summary: Summary = {
    ...name,
    passed: violations.length === 0 && missed.length === 0,
    ...{ totals, faults, answers, missed },
    windows: Object.fromEntries(windows.map((window) => [window.name, window.hits])),
    violations: violations.length,
  };
  return { text, summary };
}

/** A run in one line. */
export function lineOf({ store, mode, seconds, seed, ...rest }: Summary): string {
  return `chaos ${store} ${mode} ${seconds} s seed ${seed}: ${rest.passed ? 'PASSED' : 'FAILED'}, ${countsOf([rest])}`;
}

/** All runs in one line. `notMade`: how many could not be made. */
export function lineOfAll(summaries: readonly Summary[], notMade: number): string {
  const passed = summaries.filter((summary) => summary.passed).length;
  const isGood = passed === summaries.length && notMade === 0;
  return (
    `chaos: ${isGood ? 'PASSED' : 'FAILED'}, ${passed} of ${summaries.length} runs passed` +
    `${notMade > 0 ? `, ${notMade} could not be made` : ''}, ${countsOf(summaries)}`
  );
}

function countsOf(
  summaries: readonly Pick<Summary, 'totals' | 'faults' | 'windows' | 'missed' | 'violations'>[],
): string {
  const totals = new Map<string, number>();
  for (const summary of summaries) {
    for (const [what, times] of Object.entries(summary.totals)) totals.set(what, (totals.get(what) ?? 0) + times);
  }
  const faults = sum(summaries.flatMap((summary) => Object.values(summary.faults)));
  const windows = sum(summaries.map((summary) => Object.keys(summary.windows).length));
  const missed = sum(summaries.map((summary) => summary.missed.length));
  return [
    ...[...totals].map(([what, times]) => `${times} ${what}`),
    `${faults} faults`,
    `${sum(summaries.map(({ violations }) => violations))} violations`,
    `${windows - missed} of ${windows} windows hit`,
  ].join(', ');
}

function onlyCrashes(marks: Counts): Counts {
  return Object.fromEntries(Object.entries(marks).filter(([what]) => what.startsWith('crash')));
}

function lines(counts: Counts): string[] {
  return Object.entries(counts)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([what, times]) => `  ${what}: ${times}`);
}

function tally(list: readonly string[]): Counts {
  const counts: Record<string, number> = {};
  for (const item of list) counts[item] = (counts[item] ?? 0) + 1;
  return counts;
}

function sum(list: readonly number[]): number {
  return list.reduce((total, item) => total + item, 0);
}
