import type { Edit } from '../build.js';
import type { Mode } from '../checker/history.js';
import type { FaultKind } from '../nemesis.js';
import type { Preparation } from '../store-server.js';

/** A bug that is planted in the library, and the run that has to notice it. */
export interface Mutant {
  /** What is wrong with the library then. */
  readonly name: string;
  readonly store: 'postgres' | 'redis';
  readonly mode: Mode;
  readonly edits: readonly Edit[];
  readonly prepare?: Preparation;
  /** The faults that bring it to light. */
  readonly faults: readonly FaultKind[];
  /** Probability of each crash point; 0 by default. */
  readonly crash?: number;
  /** Probability that a reply is cut off; 0 by default. */
  readonly cut?: number;
  /** The rules of which at least one has to notice it. */
  readonly caughtBy: readonly string[];
}

/** `find`, which is in the file once, becomes `put`. */
export function edit(file: string, find: string, put: string): Edit {
  return { file, find, put };
}
