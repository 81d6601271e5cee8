export { typeormStore, type TypeormStoreOptions } from './typeorm-store.js';
export { IdempotencyRecordEntity, idempotencyEntity, type RecordTableOptions } from './record-entity.js';
export {
  CreateIdempotencyRecords1764000000000,
  idempotencyMigration,
  type RecordMigration,
  type RecordMigrationOptions,
} from './record-migration.js';
