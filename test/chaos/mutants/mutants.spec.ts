import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { applyEdit } from '../build.js';
import { INVARIANTS } from '../checker/check.js';
import { MUTANTS } from './all.js';

const sourceOf = (file: string): string =>
  readFileSync(fileURLToPath(new URL(`../../../${file}`, import.meta.url)), 'utf8');

describe('the planted bugs', () => {
  it('are at least twenty, each with a name of its own', () => {
    const names = MUTANTS.map(({ name }) => name);
    expect(names.length).toBeGreaterThanOrEqual(20);
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))('%s: can be planted', (_name, mutant) => {
    expect(mutant.edits.length > 0 || mutant.prepare !== undefined).toBe(true);
    for (const edit of mutant.edits) expect(applyEdit(sourceOf(edit.file), edit)).not.toBe(sourceOf(edit.file));
    expect(mutant.caughtBy.length).toBeGreaterThan(0);
    for (const rule of mutant.caughtBy) expect(Object.keys(INVARIANTS)).toContain(rule);
  });
});
