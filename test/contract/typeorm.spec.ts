import type { DataSource } from 'typeorm';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { describeStoreContract } from '../../lib/testing/index.js';
import { idempotencyMigration } from '../../lib/stores/typeorm/index.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { connectedDataSource, storeOver } from '../typeorm/data-sources.js';

interface Variant {
  readonly title: string;
  readonly partitions?: number;
  /** Settings of the database, for every connection to it. */
  readonly settings?: readonly string[];
}

/** Two stores for all cases, each with a DataSource of its own, as two processes would have them. */
function contractOf({ title, partitions, settings = [] }: Variant): void {
  describe(title, () => {
    let database: TestDatabase;
    const dataSources: DataSource[] = [];
    const stores: IdempotencyStore[] = [];

    beforeAll(async () => {
      database = await createTestDatabase(`contract ${title}`);
      const migrations = [idempotencyMigration({ ...(partitions !== undefined && { partitions }) })];
      const first = await connectedDataSource(database.url, { migrations });
      const name = new URL(database.url).pathname.slice(1);
      for (const setting of settings) await first.query(`ALTER DATABASE ${name} SET ${setting}`);
      dataSources.push(first, await connectedDataSource(database.url, { migrations }));
      for (const dataSource of dataSources) {
        const store = await storeOver(dataSource);
        await store.start?.();
        stores.push(store);
      }
    });

    afterAll(async () => {
      for (const store of stores) await store.stop?.();
      for (const dataSource of dataSources) await dataSource.destroy();
      await database.drop();
    });

    describeStoreContract('typeormStore', async () => ({
      store: stores[0]!,
      another: () => Promise.resolve(stores[1]!),
    }));
  });
}

contractOf({ title: 'One table' });
// What a database may be set to for the application's sake must not change what the store answers.
contractOf({
  title: 'A table in 16 partitions, in a database with settings of its own',
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
});
