import { memoryStore } from '../../lib/stores/memory/memory-store.js';
import { describeStoreContract, fakeClock } from '../../lib/testing/index.js';
import { runContract } from './collecting-runner.js';
import { MUTANTS } from './mutants/index.js';

describe('describeStoreContract', () => {
  it('passes the memory store, in at least 250 cases with titles of their own', async () => {
    let cleaned = 0;
    const results = await runContract(async () => {
      const clock = fakeClock();
      const clean = async () => void (cleaned += 1);
      return { store: memoryStore({ clock }), advance: (ms) => clock.advance(ms), clean };
    });
    expect(results.filter(({ error }) => error)).toEqual([]);
    expect(new Set(results.map(({ title }) => title)).size).toBe(results.length);
    expect(results.length).toBeGreaterThanOrEqual(250);
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

  it('passes a store without optional parts that says so, in one case for each', async () => {
    const parts = ['events', 'steps', 'requestCancel'] as const;
    const results = await runContract(
      async () => {
        const clock = fakeClock();
        const store = Object.assign(memoryStore({ clock }), Object.fromEntries(parts.map((part) => [part, undefined])));
        return { store, advance: (ms) => clock.advance(ms) };
      },
      { without: parts },
    );
    expect(results.filter(({ error }) => error)).toEqual([]);
    for (const part of parts) {
      expect(results.filter(({ title }) => title.endsWith(`the store does without: it has no ${part}`))).toHaveLength(
        1,
      );
    }
    expect(results.filter(({ title }) => / > (event log|steps|requests to cancel) > /.test(title))).toHaveLength(3);
  });

  it('fails a store that lacks a part without a word, and one that has a part it says it lacks', async () => {
    const silent = await runContract(async () => {
      const clock = fakeClock();
      return {
        store: Object.assign(memoryStore({ clock }), { steps: undefined }),
        advance: (ms) => clock.advance(ms),
      };
    });
    const steps = silent.filter(({ title }) => title.includes(' > steps > '));
    expect(steps.length).toBeGreaterThan(20);
    for (const { error } of steps) expect(error?.message).toContain("{ without: ['steps'] } as the third argument");
    expect(silent.filter(({ title, error }) => error && !title.includes(' > steps > '))).toEqual([]);

    const hiding = await runContract(
      async () => ({ store: memoryStore() }),
      { without: ['events'] },
      / > event log > /,
    );
    expect(hiding).toHaveLength(1);
    expect(hiding[0]?.error?.message).toContain("`without` names 'events', but the store has it");
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

  // Side by side: a run is mostly waiting for what a store must not do.
  it.concurrent.each(Object.entries(MUTANTS))('notices the bug: %s', async (_bug, { Store, noticedBy }) => {
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
