import { edit, type Mutant } from './mutant.js';

const RUN = 'lib/core/run-in-transaction.ts';
const TRANSACTIONS = 'lib/stores/typeorm/postgres-transactions.ts';

/** Bugs in what commits together. */
export const transactionMutants: readonly Mutant[] = [
  {
    name: 'the completion is written beside the transaction',
    ...{ store: 'postgres', mode: 'transaction', faults: [], crash: 0.02, caughtBy: ['I17'] },
    edits: [
      edit(
        RUN,
        'completed = await transaction.complete(run.claim, outcome.answer, retentionMs);',
        'completed = await store.complete(run.claim, outcome.answer, retentionMs);',
      ),
    ],
  },
  {
    name: 'a late run commits: its completion in the transaction is not fenced',
    ...{ store: 'postgres', mode: 'transaction', faults: ['app_stop'], caughtBy: ['I1', 'I17'] },
    edits: [edit(TRANSACTIONS, `if (rows.length === 0) return 'lost';`, '')],
  },
  {
    name: 'the handler is given a manager that is not of its transaction',
    ...{ store: 'postgres', mode: 'transaction', faults: ['app_kill'], crash: 0.05, caughtBy: ['I17'] },
    edits: [edit(TRANSACTIONS, 'work({ manager, complete:', 'work({ manager: dataSource.manager, complete:')],
  },
  {
    name: 'what a failed handler wrote is committed',
    ...{ store: 'postgres', mode: 'transaction', faults: [], caughtBy: ['I17'] },
    edits: [
      edit(RUN, `if (outcome.kind !== 'record') throw new RolledBack();`, `if (outcome.kind !== 'record') return;`),
    ],
  },
  {
    name: 'a commit without an answer is taken for undone',
    ...{ store: 'postgres', mode: 'transaction', faults: [], cut: 0.05, caughtBy: ['I3', 'I8'] },
    edits: [edit(RUN, 'switch (await endOfCommit(store, run)) {', `switch ('rolled back' as string) {`)],
  },
];
