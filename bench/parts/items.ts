import type { ItemsRound } from '../items/items.js';
import type { RoundResult } from '../load/rounds.js';
import { spreadOf, type Spread } from '../report/statistics.js';
import type { StoreName } from '../server/settings.js';
import { checked, type Bench } from './bench.js';
import { BenchProcess } from './process.js';

export interface ItemsRow {
  readonly store: StoreName;
  /** How many items were under way at a time. */
  readonly atOnce: number;
  readonly perSecond: Spread;
  /** To one at a time, round by round. */
  readonly toOne: Spread;
}

const AT_ONCE = [1, 32, 256] as const;

/** `IdempotencyService.run` for each of many small items: one at a time, and many, whose claims become one statement. */
export async function measureItems({ scale, servers, say }: Bench): Promise<ItemsRow[]> {
  const { postgresUrl, redisUrl } = servers;
  const stores: readonly StoreName[] = redisUrl === undefined ? ['postgres'] : ['postgres', 'redis'];
  say('many small items');
  const job = await BenchProcess.start('items/main.ts');
  try {
    const rows: ItemsRow[] = [];
    for (const store of stores) {
      const settings = { adapter: 'express', store, postgresUrl, redisUrl, retention: '24h' } as const;
      const measure = async (atOnce: number, seconds: number): Promise<number> => {
        const asked: ItemsRound = { settings, atOnce, seconds };
        const { count, seconds: taken } = checked('items', await job.ask<RoundResult>('items', asked));
        return count / taken;
      };
      for (const atOnce of AT_ONCE) await measure(atOnce, scale.warmUpSeconds / 2);
      const rates = new Map<number, number[]>(AT_ONCE.map((atOnce) => [atOnce, []]));
      for (let n = 0; n < scale.rounds; n += 1) {
        for (const atOnce of AT_ONCE) rates.get(atOnce)!.push(await measure(atOnce, scale.sliceSeconds));
      }
      const one = rates.get(1)!;
      for (const [atOnce, found] of rates) {
        const toOne = spreadOf(found.map((rate, n) => rate / one[n]!));
        rows.push({ store, atOnce, perSecond: spreadOf(found), toOne });
      }
    }
    return rows;
  } finally {
    await job.stop();
  }
}
