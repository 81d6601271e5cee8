import { checkAnswersAgree, checkPayloads, checkRecords } from './answers.js';
import { checkCommits } from './commits.js';
import { checkAnswersStandForEffects, checkEffects } from './effects.js';
import type { History, Violation } from './history.js';
import { groupByKey } from './key-history.js';
import { checkOrder } from './model.js';
import { checkFencing, checkRefusals } from './refusals.js';

/** What each rule says, in the order in which they are checked. */
export const INVARIANTS = {
  I1: 'block and transaction: at most one effect',
  I2: 'each effect under a claim of its own; a repeated one is explained by a takeover after a fault',
  I3: 'all answers of a key are the same, byte for byte',
  I4: 'no answer of another scope, key or payload',
  I5: 'an answer stands for an effect that has happened',
  I6: 'nothing runs once there is an answer, until its retention ends',
  I7: 'another payload is refused: it neither runs nor gets the answer',
  I8: 'some order of claims, completions and lease ends makes all answers true',
  I9: 'every refusal has its reason',
  I10: 'once all is healed, every key is decided',
  I11: 'no process fails by itself',
  I12: 'no request conflicts with its own claim',
  I14: 'fencing tokens increase',
  I15: 'no planted secret and no key in store files or output',
  I16: 'a record is there until its retention ends, and no longer',
  I17: 'transaction: one row of the run that completed for each recorded completion, and no other row',
} as const;

const RULES = [
  checkEffects,
  checkAnswersAgree,
  checkPayloads,
  checkAnswersStandForEffects,
  checkRefusals,
  checkFencing,
  checkRecords,
  checkCommits,
  checkOrder,
];

/** Holds a history against the contract. A pure function: the same history has the same violations. */
export function check(history: History): Violation[] {
  const violations: Violation[] = [];
  for (const event of history.events) {
    if (event.type !== 'trouble') continue;
    violations.push({ invariant: event.kind === 'leak' ? 'I15' : 'I11', subject: event.server, what: event.what });
  }
  for (const key of groupByKey(history)) {
    for (const rule of RULES) rule(key);
    violations.push(...key.violations);
  }
  return violations;
}
