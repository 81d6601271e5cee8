import { Purger } from '../../../lib/core/purger.js';
import type { IdempotencyStore } from '../../../lib/core/store.js';
import { deferred, eventually, turns } from '../support.js';

/** A store of which only `purge` is asked. */
function storeThat(purge: (limit: number) => Promise<number>): IdempotencyStore {
  return { name: 'purged', purge } as unknown as IdempotencyStore;
}

const noError = (error: unknown): void => {
  throw error;
};

describe('Purger', () => {
  it('purges again and again, in batches of the size that it is given', async () => {
    const limits: number[] = [];
    const purger = new Purger(
      storeThat(async (limit) => (limits.push(limit), 0)),
      2,
      7,
      noError,
    );
    purger.start();
    await eventually(() => limits.length >= 3, 'three purges');
    await purger.stop();
    expect(new Set(limits)).toEqual(new Set([7]));
  });

  it('goes on at once while batches are full', async () => {
    const left = [5, 5, 5, 2];
    let purges = 0;
    const purger = new Purger(
      storeThat(async () => (purges++, left.shift() ?? 0)),
      1_000,
      5,
      noError,
    );
    const before = performance.now();
    purger.start();
    await eventually(() => left.length === 0, 'all batches');
    expect(performance.now() - before).toBeGreaterThanOrEqual(990);
    await purger.stop();
    expect(purges).toBe(4); // the four batches came in one go: the next one is a second away
  });

  it('tells of an error and goes on', async () => {
    const errors: unknown[] = [];
    const away = new Error('away');
    let purges = 0;
    const store = storeThat(async () => {
      purges += 1;
      if (purges === 1) throw away;
      return 0;
    });
    const purger = new Purger(store, 2, 5, (error) => errors.push(error));
    purger.start();
    await eventually(() => purges >= 3, 'a purge after the one that failed');
    await purger.stop();
    expect(errors).toEqual([away]);
  });

  it('does not purge after stop, and stop waits for the purge that is under way', async () => {
    const gate = deferred<number>();
    let purges = 0;
    const purger = new Purger(
      storeThat(() => (purges++, gate.promise)),
      1,
      5,
      noError,
    );
    purger.start();
    await eventually(() => purges === 1, 'the first purge');
    let stopped = false;
    const stopping = purger.stop().then(() => (stopped = true));
    await turns();
    expect(stopped).toBe(false);
    gate.resolve(5); // a full batch: there is more, but it has been stopped
    await stopping;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(purges).toBe(1);
    purger.start();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(purges).toBe(1);
  });

  it('waits for as long as asked, also where that is more than a timer can count', async () => {
    let purges = 0;
    const purger = new Purger(
      storeThat(async () => (purges++, 0)),
      365 * 86_400_000,
      5,
      noError,
    );
    purger.start();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(purges).toBe(0);
    await purger.stop();
  });
});
