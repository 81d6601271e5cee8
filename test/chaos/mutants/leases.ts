import { edit, type Mutant } from './mutant.js';

const RUN = 'lib/core/active-run.ts';
const SCRIPTS = 'lib/stores/redis/redis.scripts.ts';

/** Bugs in how long a claim lives, and in what a late run may still do. */
export const leaseMutants: readonly Mutant[] = [
  {
    name: 'a completion does not compare the claim token',
    ...{ store: 'redis', mode: 'rerun', faults: ['app_stop'], caughtBy: ['I3', 'I8', 'I16'] },
    edits: [
      edit(
        SCRIPTS,
        `r.token == ARGV[3] then return 'written' end
if not held(r, ARGV[3]) then return 'lost' end
write_answer(5`,
        `r.token == ARGV[3] then return 'written' end
if not r then return 'lost' end
write_answer(5`,
      ),
    ],
  },
  {
    name: 'a lease that is over can be renewed',
    ...{ store: 'redis', mode: 'block', faults: ['app_stop'], caughtBy: ['I8', 'I9'] },
    edits: [
      edit(SCRIPTS, `if not held(r, ARGV[1]) then return 'lost' end`, `if not r then return 'lost' end`),
      edit(RUN, 'if (!this.mayHoldClaim) {', 'if (!mayRenew) {'),
    ],
  },
  {
    name: 'leases are not renewed',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I8', 'I9'] },
    edits: [edit(RUN, 'if (mayRenew && due) {', 'if (mayRenew && due && this.ended) {')],
  },
  {
    name: 'the lease in the record is counted on the clock of the application',
    ...{ store: 'redis', mode: 'rerun', faults: ['clock'], caughtBy: ['I2', 'I8', 'I9'] },
    edits: [
      edit('lib/stores/redis/redis.store.ts', 'String(request.leaseMs),', 'String(Date.now() + request.leaseMs),'),
      edit(SCRIPTS, 'local lease = now + lease_ms', 'local lease = lease_ms'),
    ],
  },
  {
    name: 'a run counts its own lease on the wall clock',
    ...{ store: 'redis', mode: 'block', faults: ['clock'], caughtBy: ['I8', 'I9'] },
    edits: [edit('lib/core/clock.ts', 'return performance.now();', 'return Date.now();')],
  },
  {
    name: 'a late run gives its own answer',
    ...{ store: 'redis', mode: 'rerun', faults: ['app_stop'], caughtBy: ['I3', 'I8', 'I16'] },
    edits: [
      edit(
        'lib/core/engine.ts',
        `if (settled === 'lost') return answerOfRecord(this.store, claim, call.fingerprint, outcome);`,
        `if (settled === 'lost') return { kind: 'ran', outcome };`,
      ),
    ],
  },
];
