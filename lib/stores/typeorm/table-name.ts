import type { DataSource } from 'typeorm';

/** A table as SQL names it; without a schema it is found by the connection's search_path. */
export interface TableName {
  readonly schema: string | undefined;
  readonly table: string;
}

export const DEFAULT_TABLE = 'idempotency_records';

export function quote(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}

/** Ready to stand in a statement. */
export function quoteTable({ schema, table }: TableName): string {
  return schema === undefined ? quote(table) : `${quote(schema)}.${quote(table)}`;
}

/** The name that TypeORM gives an entity of that table: with the DataSource's `entityPrefix` and its `schema`. */
export function tableInDataSource(dataSource: DataSource, table: string, schema: string | undefined): TableName {
  const { entityPrefix, schema: defaultSchema } = dataSource.options as { entityPrefix?: string; schema?: string };
  return {
    table: entityPrefix ? dataSource.namingStrategy.prefixTableName(entityPrefix, table) : table,
    schema: schema ?? defaultSchema,
  };
}
