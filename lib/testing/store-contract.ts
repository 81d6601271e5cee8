import assert from 'node:assert/strict';
import { answerCases } from './contract/answers.js';
import { Bench, type CaseGroup, type OptionalPart, type StoreUnderTest } from './contract/bench.js';
import { cancelCases } from './contract/cancel.js';
import { claimCases } from './contract/claim.js';
import { completionCases } from './contract/completion.js';
import { givingBackCases } from './contract/giving-back.js';
import { hintCases } from './contract/hints.js';
import { leaseCases } from './contract/leases.js';
import { raceCases } from './contract/races.js';
import { retentionCases } from './contract/retention.js';
import { settlingCases } from './contract/settling.js';
import { stepCases } from './contract/steps.js';
import { streamCases } from './contract/streams.js';

export type { OptionalPart, StoreUnderTest } from './contract/bench.js';

/** The functions of a test runner that the suite calls: those of Jest, Vitest, Mocha or `node:test`. */
export interface ContractRunner {
  readonly describe: (title: string, body: () => void) => unknown;
  readonly it: (title: string, body: () => Promise<void>) => unknown;
  readonly beforeEach: (body: () => Promise<void>) => unknown;
  readonly afterEach: (body: () => Promise<void>) => unknown;
}

/** How the suite is run. */
export interface ContractOptions extends Partial<ContractRunner> {
  /**
   * Optional members that this store does not have. One case then says so, in place of theirs. A
   * store that lacks a member without a word here fails: what nobody runs must not look as if it passed.
   */
  readonly without?: readonly OptionalPart[];
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
  streamCases,
  stepCases,
  cancelCases,
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
 * @param options the test runner's functions, by default the global `describe`, `it`, `beforeEach`
 *   and `afterEach`; and what the store does without
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
  options: ContractOptions = {},
): void {
  const { describe, it, beforeEach, afterEach } = runnerOf(options);
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
    for (const group of GROUPS) {
      describe(group.title, () => {
        for (const [holds, check] of Object.entries(casesOf(group, options.without ?? []))) {
          it(holds, async () => {
            if (!bench) throw new Error('describeStoreContract: beforeEach of the test runner was not called.');
            await check(bench);
          });
        }
      });
    }
  });
}

/** The cases of a group, or the one that stands for them where the store does without. */
function casesOf({ needs, cases }: CaseGroup, without: readonly OptionalPart[]): CaseGroup['cases'] {
  if (!needs) return cases;
  if (without.includes(needs)) {
    return {
      [`the store does without: it has no ${needs}`]: async ({ store }) =>
        assert.ok(
          store[needs] === undefined,
          `\`without\` names '${needs}', but the store has it: its cases must run.`,
        ),
    };
  }
  const lacks = `The store has no \`${needs}\`. If that is meant to be so, say it: { without: ['${needs}'] } as the third argument of describeStoreContract.`;
  return Object.fromEntries(
    Object.entries(cases).map(([holds, check]) => [
      holds,
      async (bench: Bench) => {
        assert.ok(bench.store[needs], lacks);
        await check(bench);
      },
    ]),
  );
}

function runnerOf(options: ContractOptions): ContractRunner {
  const { describe, it, beforeEach, afterEach } = { ...(globalThis as Partial<ContractRunner>), ...options };
  if (!describe || !it || !beforeEach || !afterEach) {
    throw new Error(
      'describeStoreContract: this test runner has no global describe, it, beforeEach and afterEach. Import them and pass them as the third argument.',
    );
  }
  return { describe, it, beforeEach, afterEach };
}
