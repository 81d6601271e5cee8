import { Column, Entity, EntitySchema, Index, PrimaryColumn, type ColumnOptions } from 'typeorm';
import type { RecordState } from '../../core/record.js';
import { DEFAULT_TABLE } from './table-name.js';

/** Found again on entities from both builds of this package (ESM and CommonJS), which are two classes. */
export const RECORD_ENTITY = Symbol.for('nestjs-idempotency.typeorm.record-entity');

/** How the names of {@link idempotencyEntity}'s entities begin. */
export const SCHEMA_ENTITY_PREFIX = 'IdempotencyRecord:';

/** The columns, in the order in which the migration creates them. */
export const recordColumns = {
  recordKey: { name: 'record_key', type: 'bytea' },
  recordId: { name: 'record_id', type: 'uuid' },
  operation: { name: 'operation', type: 'text' },
  fingerprint: { name: 'fingerprint', type: 'text' },
  state: { name: 'state', type: 'text' },
  claimToken: { name: 'claim_token', type: 'uuid', nullable: true },
  givenBackToken: { name: 'given_back_token', type: 'uuid', nullable: true },
  fencingToken: { name: 'fencing_token', type: 'bigint' },
  attempt: { name: 'attempt', type: 'integer' },
  createdAt: { name: 'created_at', type: 'timestamptz' },
  claimedAt: { name: 'claimed_at', type: 'timestamptz' },
  leaseUntil: { name: 'lease_until', type: 'timestamptz' },
  completedAt: { name: 'completed_at', type: 'timestamptz', nullable: true },
  expiresAt: { name: 'expires_at', type: 'timestamptz', nullable: true },
  purgeAfter: { name: 'purge_after', type: 'timestamptz', nullable: true },
  retentionMs: { name: 'retention_ms', type: 'bigint' },
  keepAbandoned: { name: 'keep_abandoned', type: 'boolean' },
  prior: { name: 'prior', type: 'jsonb', nullable: true },
  status: { name: 'status', type: 'smallint', nullable: true },
  headers: { name: 'headers', type: 'text', nullable: true },
  body: { name: 'body', type: 'bytea', nullable: true },
  notKept: { name: 'not_kept', type: 'text', nullable: true },
  streamEnd: { name: 'stream_end', type: 'text', nullable: true },
  streamItems: { name: 'stream_items', type: 'integer', nullable: true },
  streamId: { name: 'stream_id', type: 'uuid', nullable: true },
  streamHead: { name: 'stream_head', type: 'text', nullable: true },
  streamTail: { name: 'stream_tail', type: 'integer', nullable: true },
  cancelRequested: { name: 'cancel_requested', type: 'boolean', nullable: true },
  hasSteps: { name: 'has_steps', type: 'boolean', nullable: true },
  leftBehind: { name: 'left_behind', type: 'uuid', array: true, nullable: true },
} as const satisfies Record<string, ColumnOptions & { name: string }>;

/**
 * The table of records as a TypeORM entity, so that `synchronize` and generated migrations know it.
 * The store itself never reads or writes through a repository: a `find` may be answered by a replica
 * that is behind, and a `save` has no condition. For other readers (an admin page) it is what it looks
 * like. Bodies can be large: select the columns that you need.
 */
@Entity(DEFAULT_TABLE)
@Index(['purgeAfter'])
export class IdempotencyRecordEntity {
  /** SHA-256 over scope, operation and idempotency key. The base64url form of it is the `recordKey` of the API. */
  @PrimaryColumn(recordColumns.recordKey) recordKey: Buffer;
  /** The same for all attempts, another one once the key is used again. */
  @Column(recordColumns.recordId) recordId: string;
  @Column(recordColumns.operation) operation: string;
  @Column(recordColumns.fingerprint) fingerprint: string;
  /** As last written: a row that says `in_progress` with `leaseUntil` in the past is abandoned. */
  @Column(recordColumns.state) state: RecordState;
  /** Whose claim may write, or has written; empty once `resolve` has settled the record. */
  @Column(recordColumns.claimToken) claimToken: string | null;
  /** The latest claim that was undone before its handler began. */
  @Column(recordColumns.givenBackToken) givenBackToken: string | null;
  @Column(recordColumns.fencingToken) fencingToken: string;
  @Column(recordColumns.attempt) attempt: number;
  @Column(recordColumns.createdAt) createdAt: Date;
  @Column(recordColumns.claimedAt) claimedAt: Date;
  @Column(recordColumns.leaseUntil) leaseUntil: Date;
  @Column(recordColumns.completedAt) completedAt: Date | null;
  /** From then on the record counts as gone, and a purge removes it. Empty: not before it is settled. */
  @Column(recordColumns.expiresAt) expiresAt: Date | null;
  /** From then on a purge looks whether it has come to its end: not later than `expiresAt`. */
  @Column(recordColumns.purgeAfter) purgeAfter: Date | null;
  @Column(recordColumns.retentionMs) retentionMs: string;
  @Column(recordColumns.keepAbandoned) keepAbandoned: boolean;
  /** While a claim is live: what the record was before it. */
  @Column(recordColumns.prior) prior: Record<string, unknown> | null;
  @Column(recordColumns.status) status: number | null;
  /** JSON: a list of pairs. */
  @Column(recordColumns.headers) headers: string | null;
  @Column(recordColumns.body) body: Buffer | null;
  /** Why there is no body to replay. */
  @Column(recordColumns.notKept) notKept: string | null;
  /** Of a streamed answer, whose items lie elsewhere: how it ended. */
  @Column(recordColumns.streamEnd) streamEnd: string | null;
  @Column(recordColumns.streamItems) streamItems: number | null;
  /** Under which the items of the latest attempt's stream lie in the table of events. */
  @Column(recordColumns.streamId) streamId: string | null;
  /** JSON: status and headers with which the stream was begun. */
  @Column(recordColumns.streamHead) streamHead: string | null;
  /** Number of the stream's last item. */
  @Column(recordColumns.streamTail) streamTail: number | null;
  @Column(recordColumns.cancelRequested) cancelRequested: boolean | null;
  @Column(recordColumns.hasSteps) hasSteps: boolean | null;
  /** Ids of earlier streams and records whose items and steps are not yet swept up. */
  @Column(recordColumns.leftBehind) leftBehind: string[] | null;

  static readonly [RECORD_ENTITY] = true;
}

/** For a table of another name or schema. */
export interface RecordTableOptions {
  /** Without the DataSource's `entityPrefix`, which is put before it. Default: `idempotency_records`. */
  readonly table?: string;
  /** Default: the DataSource's `schema`, else what the connection's search_path finds. */
  readonly schema?: string;
}

/**
 * The entity of records for a table of another name or schema. With `synchronize` its other two tables
 * are needed as well: see `idempotencyEntities`.
 */
export function idempotencyEntity(options: RecordTableOptions = {}): EntitySchema<IdempotencyRecordEntity> {
  const { table = DEFAULT_TABLE, schema } = options;
  return new EntitySchema<IdempotencyRecordEntity>({
    ...namesOf(SCHEMA_ENTITY_PREFIX, table, schema),
    columns: { ...recordColumns, recordKey: { ...recordColumns.recordKey, primary: true } },
    indices: [{ columns: ['purgeAfter'] }],
  });
}

/** What an entity schema is called. */
export function namesOf(prefix: string, table: string, schema: string | undefined) {
  const name = `${prefix}${schema === undefined ? '' : `${schema}.`}${table}`;
  return { name, tableName: table, ...(schema !== undefined && { schema }) };
}
