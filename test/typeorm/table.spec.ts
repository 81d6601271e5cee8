import { readFile } from 'node:fs/promises';
import { DataSource, DefaultNamingStrategy, type DataSourceOptions } from 'typeorm';
import { IdempotencyConfigError } from '../../lib/core/errors.js';
import {
  CreateIdempotencyRecords1764000000000,
  IdempotencyRecordEntity,
  idempotencyEntities,
  idempotencyEntity,
  idempotencyMigration,
} from '../../lib/stores/typeorm/index.js';
import { findTables } from '../../lib/stores/typeorm/find-table.js';
import { quoteTables } from '../../lib/stores/typeorm/table-name.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { storeOver } from './data-sources.js';

const sqlFile = new URL('../../lib/stores/typeorm/migrations/0001-idempotency-records.sql', import.meta.url);

type Options = Partial<Extract<DataSourceOptions, { type: 'postgres' }>>;

let database: TestDatabase;
const open: DataSource[] = [];

beforeEach(async () => {
  database = await createTestDatabase('table');
});

afterEach(async () => {
  for (const dataSource of open.splice(0)) await dataSource.destroy();
  await database.drop();
});

async function connect(options: Options = {}): Promise<DataSource> {
  const dataSource = new DataSource({ type: 'postgres', url: database.url, ...options });
  open.push(dataSource);
  return dataSource.initialize();
}

/** What `synchronize` would still do. */
async function drift(dataSource: DataSource): Promise<string[]> {
  const { upQueries } = await dataSource.driver.createSchemaBuilder().log();
  return upQueries.map(({ query }) => query);
}

/** All that makes up a table, as the catalogue tells it; without `storage` for what an entity cannot say. */
async function shape(dataSource: DataSource, table: string, storage = true): Promise<unknown> {
  const columns: unknown = await dataSource.query(
    `SELECT attname, format_type(atttypid, atttypmod), attnotnull, atthasdef, attnum FROM pg_attribute
     WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [table],
  );
  const indexes: unknown = await dataSource.query(
    `SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index WHERE indrelid = $1::regclass ORDER BY 1`,
    [table],
  );
  const constraints: unknown = await dataSource.query(
    `SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::regclass AND contype <> 'n' ORDER BY 1`,
    [table],
  );
  const options: unknown = await dataSource.query(`SELECT reloptions FROM pg_class WHERE oid = $1::regclass`, [table]);
  return { columns, indexes, constraints, ...(storage && { options }) };
}

async function claimOnce(dataSource: DataSource): Promise<string> {
  const store = await storeOver(dataSource);
  try {
    await store.start?.();
    const { kind } = await store.claim({
      recordKey: 'A'.repeat(43),
      operation: 'POST /orders',
      fingerprint: 'f',
      claimToken: '11111111-1111-4111-8111-111111111111',
      ...{ leaseMs: 1_000, retentionMs: 1_000, keepAbandoned: true, takeOver: false },
    });
    return kind;
  } finally {
    await store.stop?.();
  }
}

const TABLES = ['idempotency_records', 'idempotency_records_events', 'idempotency_records_steps'];

async function shapes(dataSource: DataSource, storage = true): Promise<unknown[]> {
  return Promise.all(TABLES.map((table) => shape(dataSource, table, storage)));
}

async function dropTables(dataSource: DataSource): Promise<void> {
  await dataSource.query(`DROP TABLE ${TABLES.join(', ')}`);
}

describe('the tables, however they were made', () => {
  it('are the same by the migration, by the SQL file and, but for their storage, by synchronize', async () => {
    const dataSource = await connect({ migrations: [CreateIdempotencyRecords1764000000000], migrationsRun: true });
    const byMigration = await shapes(dataSource);
    const byMigrationWithoutStorage = await shapes(dataSource, false);

    await dropTables(dataSource);
    await dataSource.query(await readFile(sqlFile, 'utf8'));
    expect(await shapes(dataSource)).toEqual(byMigration);

    await dropTables(dataSource);
    await connect({ entities: idempotencyEntities(), synchronize: true });
    expect(await shapes(dataSource, false)).toEqual(byMigrationWithoutStorage);
  });

  it('store a record with room beside it', async () => {
    const dataSource = await connect({ migrations: [CreateIdempotencyRecords1764000000000], migrationsRun: true });
    expect(await shape(dataSource, 'idempotency_records')).toMatchObject({
      options: [{ reloptions: ['fillfactor=50', 'autovacuum_vacuum_scale_factor=0.05'] }],
    });
  });

  it('go with the migration that is reverted', async () => {
    const dataSource = await connect({ migrations: [CreateIdempotencyRecords1764000000000], migrationsRun: true });
    await dataSource.undoLastMigration();
    for (const table of TABLES) {
      expect(await dataSource.query(`SELECT to_regclass('${table}') AS found`)).toEqual([{ found: null }]);
    }
  });
});

class ShoutingNames extends DefaultNamingStrategy {
  override prefixTableName(prefix: string, tableName: string): string {
    return `${prefix}${tableName.toUpperCase()}`;
  }
  override indexName(...[table, columns]: Parameters<DefaultNamingStrategy['indexName']>): string {
    return `${this.getTableName(table)}_${columns.join('_')}_IX`;
  }
}

const tables: Record<string, { options?: Options; table?: string; schema?: string; partitions?: number; is: string }> =
  {
    'the default name': { is: '"idempotency_records"' },
    'another name': { table: 'request_records', is: '"request_records"' },
    'a name that must be quoted': { table: 'Request records', is: '"Request records"' },
    'a prefix': { options: { entityPrefix: 'app_' }, is: '"app_idempotency_records"' },
    'a prefix and another name': { options: { entityPrefix: 'app_' }, table: 'seen', is: '"app_seen"' },
    'a schema of its own': { schema: 'ops', is: '"ops"."idempotency_records"' },
    "the DataSource's schema": { options: { schema: 'ops' }, is: '"ops"."idempotency_records"' },
    "another schema than the DataSource's": {
      options: { schema: 'public', entityPrefix: 'app_' },
      ...{ schema: 'ops', table: 'seen' },
      is: '"ops"."app_seen"',
    },
    'a naming strategy': {
      options: { entityPrefix: 'app_', namingStrategy: new ShoutingNames() },
      is: '"app_IDEMPOTENCY_RECORDS"',
    },
    partitions: { partitions: 4, is: '"idempotency_records"' },
    'partitions, prefix and schema': {
      options: { entityPrefix: 'app_' },
      ...{ schema: 'ops', partitions: 3 },
      is: '"ops"."app_idempotency_records"',
    },
  };

describe.each(Object.entries(tables))('a table with %s', (_title, { options, partitions, is, ...naming }) => {
  const entities = idempotencyEntities(naming);
  const migration = idempotencyMigration({ ...naming, ...(partitions !== undefined && { partitions }) });

  beforeEach(async () => {
    const dataSource = await connect();
    await dataSource.query('CREATE SCHEMA ops');
  });

  it('shows no drift when the migration has made it, and the store finds it by the entity', async () => {
    const dataSource = await connect({ ...options, entities, migrations: [migration], migrationsRun: true });
    expect(await drift(dataSource)).toEqual([]);
    expect(await claimOnce(dataSource)).toBe('claimed');
    const rows: unknown = await dataSource.query(`SELECT count(*)::integer AS rows FROM ${is}`);
    expect(rows).toEqual([{ rows: 1 }]);
  });

  it('shows no drift when only the entity of records is registered', async () => {
    const dataSource = await connect({ ...options, entities: entities.slice(0, 1), migrations: [migration] });
    await dataSource.runMigrations();
    expect(await drift(dataSource)).toEqual([]);
    expect(await claimOnce(dataSource)).toBe('claimed');
  });

  it('shows no drift when synchronize has made it', async () => {
    const dataSource = await connect({ ...options, entities, synchronize: true });
    expect(await drift(dataSource)).toEqual([]);
    expect(await claimOnce(dataSource)).toBe('claimed');
  });

  it('is found by the names alone when no entity is registered', async () => {
    const dataSource = await connect({ ...options, migrations: [migration], migrationsRun: true });
    const { records, events, steps } = quoteTables(findTables(dataSource, naming));
    expect(records).toBe(is);
    for (const table of [events, steps]) {
      expect(await dataSource.query(`SELECT count(*)::integer AS rows FROM ${table}`)).toEqual([{ rows: 0 }]);
    }
  });
});

describe('the names of the migrations', () => {
  const nameOf = (options?: Parameters<typeof idempotencyMigration>[0]): string | undefined =>
    new (idempotencyMigration(options))().name;

  it('differ by table, so that one DataSource can have several', () => {
    expect(nameOf()).toBe('CreateIdempotencyRecords1764000000000');
    expect(nameOf({ partitions: 4 })).toBe('CreateIdempotencyRecords1764000000000');
    expect(new CreateIdempotencyRecords1764000000000().name).toBe('CreateIdempotencyRecords1764000000000');
    const others = [nameOf({ table: 'a' }), nameOf({ table: 'b' }), nameOf({ table: 'a', schema: 's' })];
    expect(new Set(others).size).toBe(3);
    for (const name of others) expect(name).toMatch(/1764000000000$/);
  });

  it.each([0, 1, 1.5, -2, 1025, NaN])('and %s partitions are refused', (partitions) => {
    expect(() => idempotencyMigration({ partitions })).toThrow(IdempotencyConfigError);
  });
});

describe('a name that Postgres would cut off', () => {
  it('is refused by the migration and by the store; one that just fits is not', async () => {
    const dataSource = await connect();
    const up = (table: string) => new (idempotencyMigration({ table }))().up(dataSource.createQueryRunner());
    await expect(up('r'.repeat(57))).rejects.toThrow(/_events' of the table of events would have 64 bytes.*shorter/);
    expect(() => findTables(dataSource, { table: 'ä'.repeat(29) })).toThrow(IdempotencyConfigError);
    await up('r'.repeat(56));
    const store = await storeOver(dataSource, { table: 'r'.repeat(56) });
    await store.start?.();
    await store.stop?.();
  });
});

describe('several entities of records', () => {
  const entities = [idempotencyEntity({ table: 'a' }), idempotencyEntity({ table: 'b' })];

  it('are told apart by the option', async () => {
    const dataSource = await connect({ entities });
    expect(findTables(dataSource, { table: 'b' })).toMatchObject({
      records: { table: 'b' },
      events: { table: 'b_events' },
      steps: { table: 'b_steps' },
    });
    expect(() => findTables(dataSource, {})).toThrow(/several entities of records \(a, b\).*`table`/);
  });

  it('leave the default to the one that has the default name', async () => {
    const dataSource = await connect({ entities: [...entities, IdempotencyRecordEntity] });
    expect(findTables(dataSource, {})).toMatchObject({ records: { table: 'idempotency_records' } });
  });
});
