import type { MigrationInterface, QueryRunner } from 'typeorm';
import { IdempotencyConfigError } from '../../core/errors.js';
import { recordColumns, type RecordTableOptions } from './record-entity.js';
import { DEFAULT_TABLE, quote, quoteTable, tableInDataSource, type TableName } from './table-name.js';

// TypeORM reads the order of migrations from the last 13 digits of their names.
const CREATED = '1764000000000';

export interface RecordMigrationOptions extends RecordTableOptions {
  /**
   * Splits the table by the hash of the record key into so many tables, 2 to 1,024. For loads at
   * which vacuuming one large table takes too long. Cannot be changed later without copying.
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
      for (const statement of createStatements(queryRunner, table, schema, partitions))
        await queryRunner.query(statement);
    }

    async down(queryRunner: QueryRunner): Promise<void> {
      await queryRunner.query(`DROP TABLE ${quoteTable(tableInDataSource(dataSourceOf(queryRunner), table, schema))}`);
    }
  };
}

/** Creates the table `idempotency_records`. */
export class CreateIdempotencyRecords1764000000000 extends idempotencyMigration() {}

function createStatements(
  queryRunner: QueryRunner,
  givenTable: string,
  givenSchema: string | undefined,
  partitions: number | undefined,
): string[] {
  const dataSource = dataSourceOf(queryRunner);
  const name = tableInDataSource(dataSource, givenTable, givenSchema);
  // The names that TypeORM would give: it knows constraints and indexes by nothing else, and
  // `synchronize` drops an index whose name is not the expected one.
  const key = dataSource.namingStrategy.primaryKeyName(name.table, [recordColumns.recordKey.name]);
  const index = dataSource.namingStrategy.indexName(name.table, [recordColumns.expiresAt.name]);
  const columns = Object.values(recordColumns).map(
    (column) => `  ${quote(column.name)} ${column.type}${'nullable' in column ? '' : ' NOT NULL'}`,
  );
  const body = `(\n${columns.join(',\n')},\n  CONSTRAINT ${quote(key)} PRIMARY KEY (${quote(recordColumns.recordKey.name)})\n)`;
  const create = `CREATE TABLE ${quoteTable(name)} ${body}`;
  return [
    ...(partitions === undefined ? [`${create} ${STORAGE}`] : partitioned(create, name, partitions)),
    `CREATE INDEX ${quote(index)} ON ${quoteTable(name)} (${quote(recordColumns.expiresAt.name)})`,
  ];
}

/**
 * Every record is written at least twice. Room on the page lets the second version lie beside the
 * first, and a renewal change no index; vacuum comes at a twentieth of dead rows instead of a fifth.
 */
const STORAGE = 'WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05)';

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
