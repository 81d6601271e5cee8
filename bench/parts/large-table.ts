import { startEmbeddedPostgres } from '../../sample-app/src/embedded-postgres.js';
import { spreadOf, type Spread } from '../report/statistics.js';
import type { Bench } from './bench.js';
import { BenchProcess } from './process.js';

export interface LargeTable {
  readonly small: number;
  readonly large: number;
  /** Milliseconds a claim, one after the other. */
  readonly smallMs: Spread;
  readonly largeMs: Spread;
  /** The time in the large table to that in the small one, round by round. */
  readonly ratio: Spread;
}

/** Durable as any; a table that was made in the same transaction is filled without a log of it. */
const SETTINGS = {
  ...{ fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' },
  ...{ max_wal_size: '8GB', maintenance_work_mem: '256MB' },
};

/** A claim in a table with many records, and in one with few, in turns, on one server. */
export async function measureLargeTable({ scale, say }: Bench): Promise<LargeTable> {
  const { smallTable, largeTable, claimRounds, claimsPerRound: claims } = scale;
  say(`filling a table with ${largeTable.toLocaleString('en')} records`);
  const postgres = await startEmbeddedPostgres({ settings: SETTINGS });
  try {
    const database = await BenchProcess.start('database/main.ts');
    try {
      await database.ask('fill', { url: postgres.url, name: 'small_records', records: smallTable });
      await database.ask('fill', { url: postgres.url, name: 'large_records', records: largeTable });
      say('claims in the large and the small table');
      const time = (name: string): Promise<number> => database.ask<number>('claims', { name, claims });
      const small: number[] = [];
      const large: number[] = [];
      for (let n = -1; n < claimRounds; n += 1) {
        const [first, second] = [await time('small_records'), await time('large_records')];
        if (n < 0) continue; // the first round fetches what a server at work has in memory
        small.push(first);
        large.push(second);
      }
      return {
        ...{ small: smallTable, large: largeTable, smallMs: spreadOf(small), largeMs: spreadOf(large) },
        ratio: spreadOf(large.map((ms, n) => ms / small[n]!)),
      };
    } finally {
      await database.stop();
    }
  } finally {
    await postgres.stop();
  }
}
