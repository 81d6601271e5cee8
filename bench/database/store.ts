import { DataSource } from 'typeorm';
import type { IdempotencyStore } from 'nestjs-idempotency';
import { idempotencyMigration, typeormStore } from 'nestjs-idempotency/typeorm';

/** A store of the package on a table of its own, without an application around it. */
export interface BareStore {
  readonly dataSource: DataSource;
  readonly store: IdempotencyStore;
  readonly close: () => Promise<void>;
}

export async function openStore(url: string, table: string): Promise<BareStore> {
  const migrationsTableName = `${table}_migrations`;
  const dataSource = new DataSource({
    type: 'postgres',
    url,
    migrations: [idempotencyMigration({ table })],
    migrationsTableName,
  });
  await dataSource.initialize();
  await dataSource.runMigrations();
  // In the place of an application's container, which has the DataSource.
  const container = { get: <T>(): T => dataSource as T };
  const store = await typeormStore({ table }).createStore(container);
  await store.start?.();
  const close = async (): Promise<void> => {
    await store.stop?.();
    await dataSource.destroy();
  };
  return { dataSource, store, close };
}
