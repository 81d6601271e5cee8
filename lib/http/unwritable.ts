import { answerOfValue } from '../core/answer.js';

/**
 * Whether a handler's value has no JSON text (a cycle, a bigint, a `toJSON` that throws), so that the
 * platform fails on it each time. What is not written as JSON (files, streams) fails for other reasons.
 */
export function isUnwritable(value: unknown): boolean {
  const { getStream, pipe } = Object(value) as { getStream?: unknown; pipe?: unknown };
  if (typeof getStream === 'function' || typeof pipe === 'function') return false;
  return answerOfValue(value, Infinity).kept === false;
}
