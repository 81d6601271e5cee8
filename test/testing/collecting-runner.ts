import { describeStoreContract, type ContractOptions, type StoreUnderTest } from '../../lib/testing/index.js';

export interface CaseResult {
  readonly title: string;
  readonly error: Error | undefined;
}

type Hook = () => Promise<void>;

/** Runs the contract suite here and now, each case (or those with such a title) for itself, and tells what became of each. */
export async function runContract(
  factory: () => Promise<StoreUnderTest>,
  options: Pick<ContractOptions, 'without'> = {},
  only = /(?:)/,
): Promise<CaseResult[]> {
  const cases: { readonly title: string; readonly body: Hook }[] = [];
  const before: Hook[] = [];
  const after: Hook[] = [];
  const path: string[] = [];
  describeStoreContract('the store', factory, {
    ...options,
    describe(title, body) {
      path.push(title);
      body();
      path.pop();
    },
    it: (title, body) => void cases.push({ title: [...path, title].join(' > '), body }),
    beforeEach: (body) => void before.push(body),
    afterEach: (body) => void after.push(body),
  });

  const results: CaseResult[] = [];
  for (const { title, body } of cases.filter(({ title }) => only.test(title))) {
    let error: Error | undefined;
    try {
      for (const hook of before) await hook();
      await body();
    } catch (thrown) {
      error = thrown instanceof Error ? thrown : new Error(String(thrown));
    }
    for (const hook of after) await hook();
    results.push({ title, error });
  }
  return results;
}
