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

/** So many cases are under way at a time: each needs a bench of its own, and their calls share the stores' connections. */
const AT_ONCE = 4;

/** What counts the records of all cases. */
const ALONE = /› purge (removes what is over|with nothing to remove)/;

/**
 * The contract suite for several stores, each case for all of them at once, and some cases side by side: a
 * case is mostly waiting for leases and retentions to end. The records of the cases have random keys, so
 * neighbours do not meet.
 */
export function describeContracts(title: string, subjects: readonly Subject[]): void {
  const free = Array.from({ length: AT_ONCE }, () => subjects.map(laneOf));
  const waiting: ((lanes: readonly Lane[]) => void)[] = [];
  const titles = [...free[0]![0]!.cases.keys()];
  const same = free[0]!.map(({ cases }) => [...cases.keys()]);

  async function hold(holds: string): Promise<void> {
    const lanes = free.pop() ?? (await new Promise<readonly Lane[]>((next) => waiting.push(next)));
    const ends = await Promise.allSettled(lanes.map(({ cases }) => cases.get(holds)!()));
    const next = waiting.shift();
    if (next) next(lanes);
    else free.push([...lanes]);
    const failures = ends.flatMap((end, index) =>
      end.status === 'rejected' ? [`${lanes[index]!.name}: ${String((end.reason as Error).stack ?? end.reason)}`] : [],
    );
    expect(failures.join('\n\n')).toBe('');
  }

  describe(title, () => {
    it('are held to the same cases', () => {
      for (const cases of same) expect(cases).toEqual(titles);
    });

    const alone = titles.filter((holds) => ALONE.test(holds));
    it.concurrent.each(titles.filter((holds) => !alone.includes(holds)))('%s', hold);
    // A block of its own, which begins when all that are side by side have ended.
    describe('and one case at a time', () => {
      it('are held to what looks at the records of all cases', () => expect(alone).toHaveLength(2));
      it.each(alone)('%s', hold);
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
