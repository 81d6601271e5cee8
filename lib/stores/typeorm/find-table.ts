import type { DataSource, EntityMetadata } from 'typeorm';
import { IdempotencyConfigError } from '../../core/errors.js';
import { RECORD_ENTITY, SCHEMA_ENTITY_PREFIX, type RecordTableOptions } from './record-entity.js';
import { DEFAULT_TABLE, tableInDataSource, type TableName } from './table-name.js';

/** The table of records: that of the registered entity, so that a name stands in one place; else by the options. */
export function findTable(dataSource: DataSource, { table, schema }: RecordTableOptions): TableName {
  const entities = dataSource.entityMetadatas.filter(isRecordEntity);
  const wanted = table ?? (schema !== undefined || entities.length !== 1 ? DEFAULT_TABLE : undefined);
  const found = entities.filter(
    (entity) =>
      (wanted === undefined || (entity.givenTableName ?? entity.tableName) === wanted) &&
      (schema === undefined || entity.schema === schema),
  );
  if (found.length > 1 || (found.length === 0 && entities.length > 1 && table === undefined)) {
    throw new IdempotencyConfigError(
      `typeormStore: the DataSource has several entities of records (${entities.map((entity) => entity.tablePath).join(', ')}). Say which with the \`table\` and \`schema\` options.`,
    );
  }
  const [entity] = found;
  return entity
    ? { table: entity.tableName, schema: entity.schema }
    : tableInDataSource(dataSource, wanted ?? DEFAULT_TABLE, schema);
}

function isRecordEntity({ target }: EntityMetadata): boolean {
  return typeof target === 'string' ? target.startsWith(SCHEMA_ENTITY_PREFIX) : RECORD_ENTITY in target;
}
