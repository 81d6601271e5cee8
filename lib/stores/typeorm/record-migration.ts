import type { MigrationInterface, QueryRunner } from 'typeorm';
import { IdempotencyConfigError } from '../../core/errors.js';
import { recordColumns, type RecordTableOptions } from './record-entity.js';
import { storeTables, type StoreTable } from './store-tables.js';
import {
  assertNameFits,
  DEFAULT_TABLE,
  quote,
  quoteTable,
  tablesInDataSource,
  type TableName,
  type Tables,
} from './table-name.js';

// TypeORM reads the order of migrations from the last 13 digits of their names.
const CREATED = '1764000000000';

export interface RecordMigrationOptions extends RecordTableOptions {
  /**
   * Splits the table of records by the hash of the record key into so many tables, 2 to 1,024. For
   * loads at which vacuuming one large table takes too long. Cannot be changed later without copying.
   */
  readonly partitions?: number;
}

/** A migration class for TypeORM's `migrations` option. */
export type RecordMigration = new () => MigrationInterface;

/**
 * The migration for another table name or schema, or with partitions. The schema must exist.
 *
 * @example
 * new DataSource({ migrations: [idempotencyMigration({ table: 'request_records', partitions: 16 })] })
 */
export function idempotencyMigration(options: RecordMigrationOptions = {}): RecordMigration {
  const { table = DEFAULT_TABLE, schema, partitions } = options;
  if (partitions !== undefined && !(Number.isInteger(partitions) && partitions >= 2 && partitions <= 1024)) {
    throw new IdempotencyConfigError(
      `idempotencyMigration: partitions must be a whole number from 2 to 1024, not ${partitions}.`,
    );
  }
  const isDefault = table === DEFAULT_TABLE && schema === undefined;
  const name = `CreateIdempotencyRecords${isDefault ? '' : `_${schema === undefined ? '' : `${schema}_`}${table}_`}${CREATED}`;
  return class implements MigrationInterface {
    readonly name = name;

    async up(queryRunner: QueryRunner): Promise<void> {
      const tables = tablesInDataSource(dataSourceOf(queryRunner), table, schema);
      assertNameFits(tables.records.table, 'idempotencyMigration');
      for (const statement of createStatements(queryRunner, tables, partitions)) await queryRunner.query(statement);
    }

    async down(queryRunner: QueryRunner): Promise<void> {
      const { records, events, steps } = tablesInDataSource(dataSourceOf(queryRunner), table, schema);
      for (const each of [steps, events, records]) await queryRunner.query(`DROP TABLE ${quoteTable(each)}`);
    }
  };
}

/** Creates the tables `idempotency_records`, `idempotency_records_events` and `idempotency_records_steps`. */
export class CreateIdempotencyRecords1764000000000 extends idempotencyMigration() {}

function createStatements(
  queryRunner: QueryRunner,
  { records, events, steps }: Tables<TableName>,
  partitions: number | undefined,
): string[] {
  // The names that TypeORM would give: it knows constraints and indexes by nothing else, and
  // `synchronize` drops an index whose name is not the expected one.
  const { namingStrategy } = dataSourceOf(queryRunner);
  const index = namingStrategy.indexName(records.table, [recordColumns.purgeAfter.name]);
  const create = (name: TableName, { columns, key }: StoreTable): string => {
    const lines = columns.map(
      (column) => `  ${quote(column.name)} ${column.type}${column.nullable ? '' : ' NOT NULL'}`,
    );
    const keyName = namingStrategy.primaryKeyName(name.table, [...key]);
    return `CREATE TABLE ${quoteTable(name)} (\n${lines.join(',\n')},\n  CONSTRAINT ${quote(keyName)} PRIMARY KEY (${key.map(quote).join(', ')})\n)`;
  };
  const createRecords = create(records, storeTables.records);
  return [
    ...(partitions === undefined ? [`${createRecords} ${STORAGE}`] : partitioned(createRecords, records, partitions)),
    `CREATE INDEX ${quote(index)} ON ${quoteTable(records)} (${quote(recordColumns.purgeAfter.name)})`,
    `${create(events, storeTables.events)} ${LOG_STORAGE}`,
    `${create(steps, storeTables.steps)} ${LOG_STORAGE}`,
  ];
}

/**
 * Every record is written at least twice, and with its answer it is about twice as long as when it was
 * claimed. Room on the page lets the second version lie beside the first, which touches no index: half of
 * it, so that there is room also for those of which many run at a time. Vacuum comes at a
 * twentieth of dead rows instead of a fifth.
 */
const STORAGE = 'WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)';

/** Items and steps are written once, and deleted with their record. */
const LOG_STORAGE = 'WITH (autovacuum_vacuum_scale_factor = 0.05)';

function partitioned(create: string, { schema, table }: TableName, partitions: number): string[] {
  const parts = Array.from({ length: partitions }, (_, remainder) => {
    const part = quoteTable({ schema, table: `${table}_p${remainder}` });
    return `CREATE TABLE ${part} PARTITION OF ${quoteTable({ schema, table })} FOR VALUES WITH (MODULUS ${partitions}, REMAINDER ${remainder}) ${STORAGE}`;
  });
  return [`${create} PARTITION BY HASH (${quote(recordColumns.recordKey.name)})`, ...parts];
}

function dataSourceOf(queryRunner: QueryRunner): QueryRunner['dataSource'] {
  // TypeORM 0.3 knows it as `connection` only.
  return queryRunner.dataSource ?? (queryRunner as unknown as { connection: QueryRunner['dataSource'] }).connection;
}
