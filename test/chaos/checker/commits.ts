import type { KeyHistory } from './key-history.js';

/**
 * I17: what the handlers wrote and what is recorded agree exactly. Both are read in one statement once
 * all is over, so nothing explains a difference: neither a fault nor a takeover nor a retention.
 */
export function checkCommits(key: KeyHistory): void {
  if (key.run.settings.mode !== 'transaction') return;
  const rows = new Map<number, number>();
  for (const { fence, attempt } of key.effects) {
    rows.set(fence, (rows.get(fence) ?? 0) + 1);
    const claim = key.claimOf(fence);
    if (claim && claim.attempt !== attempt) {
      key.fail('I17', `the row of run ${fence} is of attempt ${attempt}, and its claim was attempt ${claim.attempt}`);
    }
  }
  const completed = new Set(key.completions.map(({ fence }) => fence));
  for (const { state, fence } of key.records) if (state === 'completed' && fence !== undefined) completed.add(fence);
  for (const fence of completed) {
    const count = rows.get(fence) ?? 0;
    if (count !== 1) key.fail('I17', `run ${fence} is recorded as completed, and has ${count} rows`);
  }
  for (const fence of rows.keys()) {
    if (!completed.has(fence)) key.fail('I17', `the row of run ${fence} is there, and that run never completed`);
  }
}
