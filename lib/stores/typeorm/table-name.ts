import type { DataSource } from 'typeorm';
import { IdempotencyConfigError } from '../../core/errors.js';

/** A table as SQL names it; without a schema it is found by the connection's search_path. */
export interface TableName {
  readonly schema: string | undefined;
  readonly table: string;
}

export const DEFAULT_TABLE = 'idempotency_records';

/** The store's tables: of records, of the items of streams, of finished steps. */
export interface Tables<T> {
  readonly records: T;
  readonly events: T;
  readonly steps: T;
}

/** Ready to stand in a statement. */
export type QuotedTables = Tables<string>;

/** The other tables are named after that of records. */
export const EVENTS_SUFFIX = '_events';
export const STEPS_SUFFIX = '_steps';

/** Postgres cuts a longer name off without an error: the three tables could become one. */
export function assertNameFits(table: string, what: string): void {
  const bytes = Buffer.byteLength(table) + EVENTS_SUFFIX.length;
  if (bytes > 63) {
    throw new IdempotencyConfigError(
      `${what}: the name '${table}${EVENTS_SUFFIX}' of the table of events would have ${bytes} bytes, and Postgres takes 63. Give \`table\` a shorter name.`,
    );
  }
}

export function quote(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}

export function quoteTables({ records, events, steps }: Tables<TableName>): QuotedTables {
  return { records: quoteTable(records), events: quoteTable(events), steps: quoteTable(steps) };
}

/** Ready to stand in a statement. */
export function quoteTable({ schema, table }: TableName): string {
  return schema === undefined ? quote(table) : `${quote(schema)}.${quote(table)}`;
}

/** The name that TypeORM gives an entity of that table: with the DataSource's naming strategy, `entityPrefix` and `schema`. */
export function tableInDataSource(dataSource: DataSource, table: string, schema: string | undefined): TableName {
  const { entityPrefix, schema: defaultSchema } = dataSource.options as { entityPrefix?: string; schema?: string };
  const { namingStrategy } = dataSource;
  const named = namingStrategy.tableName(table, table);
  return {
    table: entityPrefix ? namingStrategy.prefixTableName(entityPrefix, named) : named,
    schema: schema ?? defaultSchema,
  };
}

/** All tables of a store whose table of records has that name. */
export function tablesInDataSource(
  dataSource: DataSource,
  table: string,
  schema: string | undefined,
): Tables<TableName> {
  const named = (suffix: string): TableName => tableInDataSource(dataSource, `${table}${suffix}`, schema);
  return { records: named(''), events: named(EVENTS_SUFFIX), steps: named(STEPS_SUFFIX) };
}
