import type { EntityManager } from 'typeorm';

export { typeormStore, type TypeormStoreOptions } from './typeorm-store.js';
export { idempotencyEntities, IdempotencyEventsEntity, IdempotencyStepEntity } from './log-entities.js';
export type { RunInTransaction } from './postgres-transactions.js';
export { IdempotencyRecordEntity, idempotencyEntity, type RecordTableOptions } from './record-entity.js';
export {
  CreateIdempotencyRecords1764000000000,
  idempotencyMigration,
  type RecordMigration,
  type RecordMigrationOptions,
} from './record-migration.js';

declare module '../../core/context.js' {
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type
  interface RunManager extends EntityManager {}
}
