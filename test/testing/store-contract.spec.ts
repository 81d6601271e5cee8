import { memoryStore } from '../../lib/stores/memory/memory-store.js';
import { describeStoreContract, fakeClock } from '../../lib/testing/index.js';
import { runContract } from './collecting-runner.js';
import { MUTANTS } from './mutants/index.js';

describe('describeStoreContract', () => {
  it('passes the memory store, in at least 60 cases with titles of their own', async () => {
    let cleaned = 0;
    const results = await runContract(async () => {
      const clock = fakeClock();
      const clean = async () => void (cleaned += 1);
      return { store: memoryStore({ clock }), advance: (ms) => clock.advance(ms), clean };
    });
    expect(results.filter(({ error }) => error)).toEqual([]);
    expect(new Set(results.map(({ title }) => title)).size).toBe(results.length);
    expect(results.length).toBeGreaterThanOrEqual(60);
    expect(cleaned).toBe(results.length);
  });

  it('passes a store that has neither hints nor a second client', async () => {
    const results = await runContract(async () => {
      const clock = fakeClock();
      const store = Object.assign(memoryStore({ clock }), { subscribe: undefined });
      return { store, advance: (ms) => clock.advance(ms) };
    });
    expect(results.filter(({ error }) => error)).toEqual([]);
  });

  it('says what to do where the test runner has no globals', () => {
    const globals = globalThis as { describe?: unknown };
    const { describe: before } = globals;
    try {
      globals.describe = undefined;
      const declare = () => describeStoreContract('x', async () => ({ store: memoryStore() }));
      expect(declare).toThrow('pass them as the third argument');
    } finally {
      globals.describe = before;
    }
  });

  it.each(Object.entries(MUTANTS))('notices the bug: %s', async (_bug, { Store, noticedBy }) => {
    const results = await runContract(async () => {
      const clock = fakeClock();
      return { store: new Store(clock), advance: (ms) => clock.advance(ms) };
    });
    const failed = results.filter(({ error }) => error).map(({ title }) => title);
    expect(failed.filter((title) => noticedBy.test(title))).not.toEqual([]);
    // A mutant that fails everything is no bug that somebody could have written.
    expect(failed.length).toBeLessThan(results.length / 2);
  });
});
