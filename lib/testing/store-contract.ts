import { answerCases } from './contract/answers.js';
import { Bench, type CaseGroup, type StoreUnderTest } from './contract/bench.js';
import { claimCases } from './contract/claim.js';
import { completionCases } from './contract/completion.js';
import { givingBackCases } from './contract/giving-back.js';
import { hintCases } from './contract/hints.js';
import { leaseCases } from './contract/leases.js';
import { raceCases } from './contract/races.js';
import { retentionCases } from './contract/retention.js';
import { settlingCases } from './contract/settling.js';

export type { StoreUnderTest } from './contract/bench.js';

/** The functions of a test runner that the suite calls: those of Jest, Vitest, Mocha or `node:test`. */
export interface ContractRunner {
  readonly describe: (title: string, body: () => void) => unknown;
  readonly it: (title: string, body: () => Promise<void>) => unknown;
  readonly beforeEach: (body: () => Promise<void>) => unknown;
  readonly afterEach: (body: () => Promise<void>) => unknown;
}

const GROUPS: readonly CaseGroup[] = [
  claimCases,
  leaseCases,
  completionCases,
  givingBackCases,
  settlingCases,
  retentionCases,
  answerCases,
  raceCases,
  hintCases,
];

/**
 * Declares the tests that hold a store to the port, `IdempotencyStore`, sentence by sentence. Run
 * it against the real backend, never a stand-in: most of what it checks is what happens when calls
 * meet there.
 *
 * @param name names the store in the titles of the tests
 * @param factory makes what is tested; called before each case, so let it share connections. The
 *   cases use random keys, so the same tables or key space may serve them all. Start and stop of
 *   the store are the factory's and `clean`'s.
 * @param runner default: the global `describe`, `it`, `beforeEach` and `afterEach`
 * @example
 * describeStoreContract('my store', async () => {
 *   const store = new MyStore(await connect());
 *   return { store, clean: () => store.stop() };
 * });
 * @example
 * import { afterEach, beforeEach, describe, it } from 'node:test';
 * const clock = fakeClock();
 * describeStoreContract(
 *   'memoryStore',
 *   async () => ({ store: memoryStore({ clock }), advance: (ms) => clock.advance(ms) }),
 *   { describe, it, beforeEach, afterEach },
 * );
 */
export function describeStoreContract(
  name: string,
  factory: () => Promise<StoreUnderTest>,
  runner: ContractRunner = globalRunner(),
): void {
  const { describe, it, beforeEach, afterEach } = runner;
  describe(`${name} keeps the store contract`, () => {
    let bench: Bench | undefined;
    beforeEach(async () => {
      bench = new Bench(await factory());
    });
    afterEach(async () => {
      const used = bench;
      bench = undefined; // a factory that fails next time must not have this one cleaned twice
      await used?.close();
    });
    for (const { title, cases } of GROUPS) {
      describe(title, () => {
        for (const [holds, run] of Object.entries(cases)) {
          it(holds, async () => {
            if (!bench) throw new Error('describeStoreContract: beforeEach of the test runner was not called.');
            await run(bench);
          });
        }
      });
    }
  });
}

function globalRunner(): ContractRunner {
  const runner = globalThis as Partial<ContractRunner>;
  if (!runner.describe || !runner.it || !runner.beforeEach || !runner.afterEach) {
    throw new Error(
      'describeStoreContract: this test runner has no global describe, it, beforeEach and afterEach. Import them and pass them as the third argument.',
    );
  }
  return runner as ContractRunner;
}
