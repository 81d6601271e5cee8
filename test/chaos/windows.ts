import type { FaultEvent, History, RequestEvent, StoreCallEvent } from './checker/history.js';
import { operationOf } from './checker/history.js';

/** A moment that must have been hit for a run to prove something, and how often in 300 seconds at least. */
interface Window {
  readonly name: string;
  readonly stores: readonly string[];
  readonly modes: readonly string[];
  readonly atLeast: number;
}

const ALL = { stores: ['postgres', 'redis'], modes: ['block', 'rerun', 'transaction'] } as const;
const OUTSIDE = { ...ALL, modes: ['block', 'rerun'] } as const;
const TRANSACTION = { stores: ['postgres'], modes: ['transaction'] } as const;

const WINDOWS = [
  { ...OUTSIDE, name: 'killed between effect and record', atLeast: 20 },
  { ...TRANSACTION, name: 'killed between effect and completion', atLeast: 20 },
  { ...TRANSACTION, name: 'killed between completion and commit', atLeast: 5 },
  { ...ALL, name: 'killed between claim and effect', atLeast: 10 },
  { ...ALL, name: 'killed between record and answer', atLeast: 5 },
  { ...ALL, name: 'reply to a claim cut off', atLeast: 20 },
  { ...OUTSIDE, name: 'reply to a completion cut off', atLeast: 10 },
  { ...TRANSACTION, name: 'reply to a commit cut off', atLeast: 10 },
  { ...TRANSACTION, name: 'commit unanswered, and true', atLeast: 5 },
  { ...TRANSACTION, name: 'commit unanswered, and undone', atLeast: 5 },
  { ...TRANSACTION, name: 'written by a late run, and undone', atLeast: 5 },
  { ...TRANSACTION, name: 'written by a handler that failed, and undone', atLeast: 20 },
  { ...ALL, name: 'frozen for longer than the lease with a claim', atLeast: 10 },
  { ...ALL, name: 'late completion refused', atLeast: 5 },
  { ...ALL, modes: ['rerun', 'transaction'], name: 'taken over', atLeast: 20 },
  { ...ALL, modes: ['block'], name: 'outcome unknown answered', atLeast: 20 },
  { ...ALL, name: 'replayed while the store was away', atLeast: 5 },
  { ...ALL, name: 'refused because the store was away', atLeast: 20 },
  { ...ALL, name: 'joined a running request', atLeast: 10 },
  { ...ALL, name: 'run again after the retention', atLeast: 10 },
  { ...ALL, name: 'other payload refused', atLeast: 20 },
  { ...ALL, name: 'answer not kept', atLeast: 5 },
  { ...ALL, stores: ['postgres'], name: 'purged beside a live claim', atLeast: 10 },
] as const satisfies readonly Window[];

export type WindowName = (typeof WINDOWS)[number]['name'];

export interface WindowCount {
  readonly name: WindowName;
  readonly hits: number;
  readonly atLeast: number;
}

/** How often each window was hit in a run of so many seconds, and how often it had to be. */
export function countWindows(history: History, seconds: number): WindowCount[] {
  const { store, mode } = history.settings;
  const counts = count(history);
  return WINDOWS.filter(({ stores, modes }) => isIn(stores, store) && isIn(modes, mode)).map(({ name, atLeast }) => ({
    name,
    hits: counts.get(name) ?? 0,
    atLeast: Math.floor((atLeast * seconds) / 300),
  }));
}

function isIn(list: readonly string[], item: string): boolean {
  return list.includes(item);
}

function count(history: History): Map<WindowName, number> {
  const counts = new Map<WindowName, number>();
  const hit = (name: WindowName, times = 1): void => void counts.set(name, (counts.get(name) ?? 0) + times);
  const runs = runsOf(history);
  const faults = history.events.filter((event) => event.type === 'fault');
  const requests = history.events.filter((event) => event.type === 'request');
  countFaultyRuns(runs, faults, hit);
  countAnswers(requests, faults, hit);
  for (const event of history.events) {
    if (event.type === 'mark' && event.what === 'cut claim reply') hit('reply to a claim cut off');
    if (event.type === 'mark' && event.what === 'cut complete reply') hit('reply to a completion cut off');
    if (event.type === 'mark' && event.what === 'cut commit reply') hit('reply to a commit cut off');
    if (event.type === 'purge' && runs.some((run) => run.from <= event.to && run.to >= event.from)) {
      hit('purged beside a live claim');
    }
  }
  const effects = new Map<string, number>();
  for (const event of history.events) {
    if (event.type === 'effect') effects.set(event.subject, (effects.get(event.subject) ?? 0) + 1);
  }
  for (const [subject, times] of effects) {
    if (history.settings.retentions[operationOf(subject)]! < 60_000) hit('run again after the retention', times - 1);
  }
  return counts;
}

interface Run {
  readonly server: string;
  readonly from: number;
  /** When it was settled, as far as its process knew; Infinity: it never was. */
  readonly to: number;
  readonly effectAt: number;
  /** When its completion was written in its transaction; the commit is to come. */
  readonly writtenAt: number;
  readonly completedAt: number;
  readonly answeredAt: number;
  readonly tookOver: boolean;
  readonly refused: boolean;
  /** Nobody has answered whether its transaction was committed. */
  readonly unanswered: boolean;
  /** Whether its effect is there at the end. */
  readonly stands: boolean;
}

/** Every run that had a claim, with its steps. */
function runsOf({ events }: History): Run[] {
  const effects = new Map<number, number>();
  const wrote = new Map<number, number>();
  const answered = new Map<number, number>();
  const calls = new Map<string, StoreCallEvent[]>();
  for (const event of events) {
    if (event.type === 'effect') effects.set(event.fence, event.at);
    if (event.type === 'wrote') wrote.set(event.fence, event.at);
    if (event.type === 'request' && event.answer.kind === 'answered' && !event.answer.replayed) {
      answered.set(event.answer.run, event.to);
    }
    if (event.type === 'store') calls.set(event.token, [...(calls.get(event.token) ?? []), event]);
  }
  const runs: Run[] = [];
  for (const own of calls.values()) {
    const claim = own.find((call) => call.method === 'claim' && call.fence !== undefined);
    if (!claim) continue;
    const settling = own.filter((call) => call.method !== 'claim' && call.method !== 'renew');
    const completions = settling.filter((call) => call.method === 'complete');
    const completed = completions.find((call) => call.got === 'written');
    runs.push({
      server: claim.server,
      from: claim.to!,
      to: settling.find((call) => call.got === 'written')?.to ?? Infinity,
      effectAt: wrote.get(claim.fence!) ?? effects.get(claim.fence!) ?? Infinity,
      writtenAt: completions.find((call) => call.writtenAt !== undefined)?.writtenAt ?? Infinity,
      completedAt: completed?.to ?? Infinity,
      answeredAt: answered.get(claim.fence!) ?? Infinity,
      tookOver: claim.tookOver === true,
      refused: completions.some((call) => call.got === 'lost'),
      unanswered: completions.some((call) => call.writtenAt !== undefined && call.got === 'error'),
      stands: effects.has(claim.fence!),
    });
  }
  return runs;
}

function countFaultyRuns(runs: readonly Run[], faults: readonly FaultEvent[], hit: (name: WindowName) => void): void {
  for (const run of runs) {
    if (run.tookOver) hit('taken over');
    if (run.refused) hit('late completion refused');
    const hasWritten = run.effectAt < Infinity;
    if (run.refused && hasWritten && !run.stands) hit('written by a late run, and undone');
    if (run.unanswered) hit(run.stands ? 'commit unanswered, and true' : 'commit unanswered, and undone');
    const onServer = faults.filter(({ server }) => server === run.server);
    const kill = onServer.find(({ kind, from }) => kind === 'kill' && from >= run.from);
    if (kill) {
      const { from: at } = kill;
      if (run.effectAt <= at && run.completedAt > at && run.to > at) {
        hit('killed between effect and record');
        hit(run.writtenAt <= at ? 'killed between completion and commit' : 'killed between effect and completion');
      }
      if (run.effectAt > at && run.to > at) hit('killed between claim and effect');
      else if (run.completedAt <= at && run.answeredAt > at) hit('killed between record and answer');
    }
    const stop = onServer.find(
      ({ kind, from, to }) => kind === 'stop' && from >= run.from && from < run.to && to - from > 1_000,
    );
    if (stop) hit('frozen for longer than the lease with a claim');
  }
}

function countAnswers(
  requests: readonly RequestEvent[],
  faults: readonly FaultEvent[],
  hit: (name: WindowName) => void,
): void {
  const outages = faults.filter(({ kind }) => kind === 'store_kill' || kind === 'store_stop');
  for (const { answer, from, to, subject } of requests) {
    const isDuring = outages.some((outage) => outage.from <= from && outage.to >= to);
    if (answer.kind === 'answered' && answer.replayed) {
      if (isDuring) hit('replayed while the store was away');
      if (operationOf(subject).endsWith('joined') && to - from > 50) hit('joined a running request');
    }
    if (answer.kind === 'failed') hit('written by a handler that failed, and undone');
    if (answer.kind === 'unknown') hit('outcome unknown answered');
    if (answer.kind === 'unavailable') hit('refused because the store was away');
    if (answer.kind === 'reused') hit('other payload refused');
    if (answer.kind === 'not_kept') hit('answer not kept');
  }
}
