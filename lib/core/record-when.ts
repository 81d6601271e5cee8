/** What a route's `recordWhen` is told of an answer. */
export interface AnswerOutcome {
  /** HTTP status of the answer; null for an operation that is no HTTP request. */
  readonly status: number | null;
  /** What the handler threw, if it threw. */
  readonly error?: unknown;
}

/** `'record'`: keep the answer and replay it. `'release'`: forget it, so that the next retry runs. */
export type RecordWhen = (outcome: AnswerOutcome) => 'record' | 'release';

/** Statuses below 500 that say "not now" or "not you" rather than what came of the operation. */
const RELEASED_STATUSES: ReadonlySet<number> = new Set([401, 403, 408, 409, 425, 429]);

/** Recorded: what the handler answered below 500. Released: 5xx and the statuses above. */
export const recordBelow500: RecordWhen = ({ status, error }) => {
  if (status === null) return error === undefined ? 'record' : 'release';
  return status < 500 && !RELEASED_STATUSES.has(status) ? 'record' : 'release';
};

/** What the route's rule says of an outcome; the usual rule's word where it throws or says something else. */
export function askRecordWhen(recordWhen: RecordWhen, outcome: AnswerOutcome): 'record' | 'release' {
  try {
    const said: unknown = recordWhen(outcome);
    if (said === 'record' || said === 'release') return said;
  } catch {
    // A rule that fails is no rule; the usual one holds.
  }
  return recordBelow500(outcome);
}
