import { describeStoreContract, type StoreUnderTest } from '../../lib/testing/index.js';

/** A store to be held to the contract, and how its cases get at it. */
export interface Subject {
  readonly name: string;
  readonly factory: () => Promise<StoreUnderTest>;
}

type Body = () => Promise<void>;

interface Lane {
  readonly name: string;
  readonly cases: ReadonlyMap<string, Body>;
}

/**
 * The contract suite for several stores, each case for all of them at once: a case is mostly waiting
 * for leases and retentions to end, and five stores wait as fast as one. The records of the cases
 * have random keys, so neighbours do not meet.
 */
export function describeContracts(title: string, subjects: readonly Subject[]): void {
  const lanes = subjects.map(laneOf);
  const titles = [...lanes[0]!.cases.keys()];

  describe(title, () => {
    it('are held to the same cases', () => {
      for (const { cases } of lanes) expect([...cases.keys()]).toEqual(titles);
    });

    it.each(titles)('%s', async (holds) => {
      const ends = await Promise.allSettled(lanes.map(({ cases }) => cases.get(holds)!()));
      const failures = ends.flatMap((end, index) =>
        end.status === 'rejected'
          ? [`${lanes[index]!.name}: ${String((end.reason as Error).stack ?? end.reason)}`]
          : [],
      );
      expect(failures.join('\n\n')).toBe('');
    });
  });
}

/** The cases of one store, each with what comes before and after it. */
function laneOf({ name, factory }: Subject): Lane {
  const cases = new Map<string, Body>();
  const before: Body[] = [];
  const after: Body[] = [];
  const path: string[] = [];
  // One case of a store at a time: the suite has one bench, which `before` lays out anew.
  describeStoreContract(name, factory, {
    describe(title, body) {
      path.push(title);
      body();
      path.pop();
    },
    it: (title, body) =>
      void cases.set([...path.slice(1), title].join(' › '), async () => {
        for (const hook of before) await hook();
        try {
          await body();
        } finally {
          for (const hook of after) await hook();
        }
      }),
    beforeEach: (body) => void before.push(body),
    afterEach: (body) => void after.push(body),
  });
  return { name, cases };
}
