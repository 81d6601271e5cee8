import { answerMutants } from './answers.js';
import { claimMutants } from './claims.js';
import { keepingMutants } from './keeping.js';
import { leaseMutants } from './leases.js';
import type { Mutant } from './mutant.js';
import { nameMutants } from './names.js';
import { transactionMutants } from './transactions.js';

export const MUTANTS: readonly Mutant[] = [
  ...claimMutants,
  ...leaseMutants,
  ...answerMutants,
  ...nameMutants,
  ...keepingMutants,
  ...transactionMutants,
];
