import { INVARIANTS } from './checker/check.js';
import type { ChaosResult } from './chaos.js';

const MOST_SHOWN = 20;

/** A run for people, and in one line. */
export function report(
  run: { readonly store: string; readonly mode: string; readonly seconds: number; readonly seed: number },
  { history, violations, windows, faults }: ChaosResult,
): { text: string; summary: string; isGood: boolean } {
  const { events } = history;
  const requests = events.filter((event) => event.type === 'request');
  const effects = events.filter((event) => event.type === 'effect');
  const marks = tally(events.flatMap((event) => (event.type === 'mark' ? [event.what] : [])));
  const crashes = [...marks].filter(([what]) => what.startsWith('crash'));
  const keys = new Set(requests.map(({ subject }) => subject)).size;
  const missed = windows.filter(({ hits, atLeast }) => hits < atLeast);
  const injected = sum([...faults.values()]) + sum(crashes.map(([, times]) => times));
  const answers = tally(requests.map(({ answer }) => answer.kind));
  const text = [
    'faults:',
    ...lines([...faults, ...crashes]),
    'answers:',
    ...lines([...answers]),
    'windows (hits, of at least):',
    ...windows.map(({ name, hits, atLeast }) => `  ${hits < atLeast ? 'MISSED ' : ''}${name}: ${hits} of ${atLeast}`),
    `violations: ${violations.length}`,
    ...violations.slice(0, MOST_SHOWN).map(({ invariant, subject, what }) => `  ${invariant} ${subject}: ${what}`),
    ...(violations.length > MOST_SHOWN ? [`  … and ${violations.length - MOST_SHOWN} more`] : []),
    ...[...new Set(violations.map(({ invariant }) => invariant))].map(
      (invariant) => `  ${invariant} is: ${INVARIANTS[invariant as keyof typeof INVARIANTS]}`,
    ),
  ].join('\n');
  const isGood = violations.length === 0 && missed.length === 0;
  const summary =
    `chaos ${run.store} ${run.mode} ${run.seconds} s seed ${run.seed}: ${isGood ? 'PASSED' : 'FAILED'}, ` +
    `${requests.length} requests, ${keys} keys, ${effects.length} effects, ${injected} faults, ` +
    `${violations.length} violations, ${windows.length - missed.length} of ${windows.length} windows hit`;
  return { text, summary, isGood };
}

function lines(counts: readonly (readonly [string, number])[]): string[] {
  return counts.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([what, times]) => `  ${what}: ${times}`);
}

function tally(list: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of list) counts.set(item, (counts.get(item) ?? 0) + 1);
  return counts;
}

function sum(list: readonly number[]): number {
  return list.reduce((total, item) => total + item, 0);
}
