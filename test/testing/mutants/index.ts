import { CLAIMING_MUTANTS } from './claiming.js';
import { COMPLETING_MUTANTS } from './completing.js';
import type { Mutant } from './mutable.js';
import { SETTLING_MUTANTS } from './settling.js';

export const MUTANTS: Readonly<Record<string, Mutant>> = {
  ...CLAIMING_MUTANTS,
  ...COMPLETING_MUTANTS,
  ...SETTLING_MUTANTS,
};
