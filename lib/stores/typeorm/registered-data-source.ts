import { DataSource } from 'typeorm';
import { IdempotencyConfigError } from '../../core/errors.js';
import type { StoreContainer } from '../../core/store.js';

/**
 * The DataSource that the store is to use.
 * @param given the name under which it is registered, or itself; nothing for the unnamed one
 * @throws IdempotencyConfigError
 */
export async function dataSourceOf(
  given: string | DataSource | undefined,
  container: StoreContainer,
): Promise<DataSource> {
  const dataSource = typeof given === 'object' ? given : await registeredDataSource(given, container);
  const { type } = dataSource.options;
  if (type !== 'postgres') {
    throw new IdempotencyConfigError(
      `typeormStore: the DataSource's type is '${type}', and only 'postgres' can keep records. Elsewhere the one statement that a claim is does not exist: the upserts of MySQL, MariaDB and SQLite drivers silently lose their condition, and a running claim would be stolen. Name a Postgres DataSource with the \`dataSource\` option, or use redisStore or memoryStore.`,
    );
  }
  return dataSource;
}

async function registeredDataSource(name: string | undefined, container: StoreContainer): Promise<DataSource> {
  // The unnamed one is registered under TypeORM's class itself.
  const token = name === undefined ? DataSource : (await import('@nestjs/typeorm')).getDataSourceToken(name);
  try {
    return container.get<DataSource>(token);
  } catch (cause) {
    throw new IdempotencyConfigError(
      name === undefined
        ? 'typeormStore: the application has no DataSource. Import TypeOrmModule.forRoot(…), or give one with the `dataSource` option (a name, or a DataSource).'
        : `typeormStore: the application has no DataSource named '${name}'. Give TypeOrmModule.forRoot the same \`name\`, or correct the \`dataSource\` option.`,
      { cause },
    );
  }
}
