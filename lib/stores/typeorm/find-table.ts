import type { DataSource, EntityMetadata } from 'typeorm';
import { IdempotencyConfigError } from '../../core/errors.js';
import { RECORD_ENTITY, SCHEMA_ENTITY_PREFIX, type RecordTableOptions } from './record-entity.js';
import { assertNameFits, DEFAULT_TABLE, tablesInDataSource, type TableName, type Tables } from './table-name.js';

/**
 * The tables of the store: that of records by its registered entity, so that a name stands in one
 * place, else by the options; the others by its name.
 */
export function findTables(dataSource: DataSource, { table, schema }: RecordTableOptions): Tables<TableName> {
  const entities = dataSource.entityMetadatas.filter(isRecordEntity);
  const wanted = table ?? (schema !== undefined || entities.length !== 1 ? DEFAULT_TABLE : undefined);
  const found = entities.filter(
    (entity) =>
      (wanted === undefined || givenName(entity) === wanted) && (schema === undefined || entity.schema === schema),
  );
  if (found.length > 1 || (found.length === 0 && entities.length > 1 && table === undefined)) {
    throw new IdempotencyConfigError(
      `typeormStore: the DataSource has several entities of records (${entities.map((entity) => entity.tablePath).join(', ')}). Say which with the \`table\` and \`schema\` options.`,
    );
  }
  const [entity] = found;
  const tables = entity
    ? {
        ...tablesInDataSource(dataSource, givenName(entity), entity.schema),
        records: { table: entity.tableName, schema: entity.schema },
      }
    : tablesInDataSource(dataSource, wanted ?? DEFAULT_TABLE, schema);
  assertNameFits(tables.records.table, 'typeormStore');
  return tables;
}

/** Without the DataSource's prefix. */
function givenName(entity: EntityMetadata): string {
  return entity.givenTableName ?? entity.tableName;
}

function isRecordEntity({ target }: EntityMetadata): boolean {
  return typeof target === 'string' ? target.startsWith(SCHEMA_ENTITY_PREFIX) : RECORD_ENTITY in target;
}
