import type { Scale } from '../scale.js';
import type { Round, RoundResult } from '../load/rounds.js';
import type { BenchProcess, Servers } from './process.js';

/** What every part of the bench works with. */
export interface Bench {
  readonly scale: Scale;
  readonly servers: Servers;
  readonly load: BenchProcess;
  readonly database: BenchProcess;
  /** Tells how far it is, on standard error. */
  readonly say: (text: string) => void;
}

/** One round of the load generator. @throws Error where an answer was not the one that it should be: a wrong answer has no speed */
export async function round(load: BenchProcess, what: string, asked: Round): Promise<RoundResult> {
  return checked(what, await load.ask<RoundResult>('run', asked));
}

export function checked(what: string, result: RoundResult): RoundResult {
  if (result.failures > 0)
    throw new Error(`${what}: ${result.failures} failed, the first with: ${result.firstFailure}`);
  if (result.count === 0) throw new Error(`${what}: nothing was answered`);
  return result;
}
