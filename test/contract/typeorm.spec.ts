import type { DataSource } from 'typeorm';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { idempotencyMigration } from '../../lib/stores/typeorm/index.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { connectedDataSource, storeOver } from '../typeorm/data-sources.js';
import { describeContracts } from './side-by-side.js';

interface Variant {
  readonly title: string;
  readonly partitions?: number;
  /** Settings of the database, for every connection to it. */
  readonly settings?: readonly string[];
}

const VARIANTS: readonly Variant[] = [
  { title: 'one table' },
  // What a database may be set to for the application's sake must not change what the store answers.
  {
    title: 'a table in 16 partitions, in a database with settings of its own',
    partitions: 16,
    settings: [
      `default_transaction_isolation = 'serializable'`,
      `synchronous_commit = off`,
      `DateStyle = 'German, DMY'`,
      `IntervalStyle = 'sql_standard'`,
      `TimeZone = 'Pacific/Chatham'`,
      `bytea_output = 'escape'`,
      `extra_float_digits = 0`,
    ],
  },
];

describe('typeormStore keeps the store contract', () => {
  const databases: TestDatabase[] = [];
  const dataSources: DataSource[] = [];
  /** Two stores a variant for all cases, each with a DataSource of its own, as two processes would have them. */
  const stores = new Map<string, IdempotencyStore[]>();

  beforeAll(async () => {
    for (const variant of VARIANTS) stores.set(variant.title, await twoStores(variant));
  }, 60_000);

  afterAll(async () => {
    for (const store of [...stores.values()].flat()) await store.stop?.();
    for (const dataSource of dataSources) await dataSource.destroy();
    for (const database of databases) await database.drop();
  });

  async function twoStores({ title, partitions, settings = [] }: Variant): Promise<IdempotencyStore[]> {
    const database = await createTestDatabase(`contract ${title}`);
    databases.push(database);
    const migrations = [idempotencyMigration({ ...(partitions !== undefined && { partitions }) })];
    const first = await connectedDataSource(database.url, { migrations });
    const name = new URL(database.url).pathname.slice(1);
    for (const setting of settings) await first.query(`ALTER DATABASE ${name} SET ${setting}`);
    const pair = [first, await connectedDataSource(database.url, { migrations })];
    dataSources.push(...pair);
    const two: IdempotencyStore[] = [];
    for (const dataSource of pair) {
      const store = await storeOver(dataSource);
      await store.start?.();
      two.push(store);
    }
    return two;
  }

  describeContracts(
    'in each kind of table',
    VARIANTS.map(({ title }) => ({
      name: title,
      factory: () =>
        Promise.resolve({ store: stores.get(title)![0]!, another: () => Promise.resolve(stores.get(title)![1]!) }),
    })),
  );
});
