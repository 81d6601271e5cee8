import { CANCELLING_MUTANTS } from './cancelling.js';
import { CLAIMING_MUTANTS } from './claiming.js';
import { COMPLETING_MUTANTS } from './completing.js';
import type { Mutant } from './mutable.js';
import { READING_MUTANTS } from './reading.js';
import { SETTLING_MUTANTS } from './settling.js';
import { STEP_MUTANTS } from './steps.js';
import { APPENDING_MUTANTS } from './appending.js';

export const MUTANTS: Readonly<Record<string, Mutant>> = {
  ...CLAIMING_MUTANTS,
  ...COMPLETING_MUTANTS,
  ...SETTLING_MUTANTS,
  ...APPENDING_MUTANTS,
  ...READING_MUTANTS,
  ...STEP_MUTANTS,
  ...CANCELLING_MUTANTS,
};
