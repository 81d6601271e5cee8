import { Column, Entity, EntitySchema, PrimaryColumn, type ColumnOptions } from 'typeorm';
import { idempotencyEntity, IdempotencyRecordEntity, namesOf, type RecordTableOptions } from './record-entity.js';
import { DEFAULT_TABLE, EVENTS_SUFFIX, STEPS_SUFFIX } from './table-name.js';

export const eventColumns = {
  streamId: { name: 'stream_id', type: 'uuid' },
  lastSeq: { name: 'last_seq', type: 'integer' },
  sizes: { name: 'sizes', type: 'integer', array: true },
  data: { name: 'data', type: 'bytea' },
} as const satisfies Record<string, ColumnOptions & { name: string }>;

export const stepColumns = {
  recordId: { name: 'record_id', type: 'uuid' },
  nameHash: { name: 'name_hash', type: 'bytea' },
  name: { name: 'name', type: 'text' },
  result: { name: 'result', type: 'bytea' },
} as const satisfies Record<string, ColumnOptions & { name: string }>;

/** The items of streams, a row for each batch, so that `synchronize` and generated migrations know the table. */
@Entity(`${DEFAULT_TABLE}${EVENTS_SUFFIX}`)
export class IdempotencyEventsEntity {
  /** One generation of a stream: the record's `streamId` while it is the latest. */
  @PrimaryColumn(eventColumns.streamId) streamId: string;
  /** Number of the batch's last item. */
  @PrimaryColumn(eventColumns.lastSeq) lastSeq: number;
  /** Bytes of each item. */
  @Column(eventColumns.sizes) sizes: number[];
  /** The items, one after the other. */
  @Column(eventColumns.data) data: Buffer;
}

/** The finished steps, so that `synchronize` and generated migrations know the table. */
@Entity(`${DEFAULT_TABLE}${STEPS_SUFFIX}`)
export class IdempotencyStepEntity {
  @PrimaryColumn(stepColumns.recordId) recordId: string;
  /** SHA-256 of `name`. */
  @PrimaryColumn(stepColumns.nameHash) nameHash: Buffer;
  /** JSON: a text. */
  @Column(stepColumns.name) name: string;
  /** JSON; empty for `undefined`. */
  @Column(stepColumns.result) result: Buffer;
}

/**
 * The entities of all three tables of a store, for `entities` or `forFeature`.
 *
 * @example
 * TypeOrmModule.forFeature(idempotencyEntities())
 * @example
 * TypeOrmModule.forFeature(idempotencyEntities({ table: 'request_records', schema: 'ops' }))
 */
export function idempotencyEntities(options: RecordTableOptions = {}): ((new () => object) | EntitySchema)[] {
  const { table = DEFAULT_TABLE, schema } = options;
  if (table === DEFAULT_TABLE && schema === undefined) {
    return [IdempotencyRecordEntity, IdempotencyEventsEntity, IdempotencyStepEntity];
  }
  const { streamId, lastSeq } = eventColumns;
  const { recordId, nameHash } = stepColumns;
  return [
    idempotencyEntity(options),
    new EntitySchema<IdempotencyEventsEntity>({
      ...namesOf('IdempotencyEvents:', `${table}${EVENTS_SUFFIX}`, schema),
      columns: { ...eventColumns, streamId: { ...streamId, primary: true }, lastSeq: { ...lastSeq, primary: true } },
    }),
    new EntitySchema<IdempotencyStepEntity>({
      ...namesOf('IdempotencySteps:', `${table}${STEPS_SUFFIX}`, schema),
      columns: { ...stepColumns, recordId: { ...recordId, primary: true }, nameHash: { ...nameHash, primary: true } },
    }),
  ];
}
