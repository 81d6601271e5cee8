import { DataSource, type DataSourceOptions } from 'typeorm';
import type { IdempotencyStore, StoreContainer } from '../../lib/core/store.js';
import {
  CreateIdempotencyRecords1764000000000,
  typeormStore,
  type TypeormStoreOptions,
} from '../../lib/stores/typeorm/index.js';

type PostgresOptions = Partial<Extract<DataSourceOptions, { type: 'postgres' }>>;

/** An initialised DataSource, its table created by the migration unless the options say otherwise. */
export async function connectedDataSource(url: string, options: PostgresOptions = {}): Promise<DataSource> {
  const migrations = { migrations: [CreateIdempotencyRecords1764000000000], migrationsRun: true };
  const dataSource = new DataSource({ type: 'postgres', url, ...migrations, ...options });
  return dataSource.initialize();
}

/** For stores that are given their DataSource: they ask the container for nothing. */
export const noContainer: StoreContainer = {
  get() {
    throw new Error('there is no container in this test');
  },
};

/** A store over `dataSource`, not started. */
export async function storeOver(dataSource: DataSource, options: TypeormStoreOptions = {}): Promise<IdempotencyStore> {
  return typeormStore({ ...options, dataSource }).createStore(noContainer);
}
