import type { ColumnOptions } from 'typeorm';
import { eventColumns, stepColumns } from './log-entities.js';
import { recordColumns } from './record-entity.js';
import type { Tables } from './table-name.js';

/** A table as the migration makes it, and as the check at boot expects it. */
export interface StoreTable {
  readonly columns: readonly StoreColumn[];
  /** The columns that no two rows share. */
  readonly key: readonly string[];
  /** What goes wrong without that key. */
  readonly without: string;
}

export interface StoreColumn {
  readonly name: string;
  /** As the server itself spells it. */
  readonly type: string;
  readonly nullable: boolean;
}

export const storeTables: Tables<StoreTable> = {
  records: {
    columns: columnsOf(recordColumns),
    key: [recordColumns.recordKey.name],
    without: 'two claims of one key could both succeed',
  },
  events: {
    columns: columnsOf(eventColumns),
    key: [eventColumns.streamId.name, eventColumns.lastSeq.name],
    without: 'an append whose reply was lost could be written twice',
  },
  steps: {
    columns: columnsOf(stepColumns),
    key: [stepColumns.recordId.name, stepColumns.nameHash.name],
    without: 'a step could have two results',
  },
};

function columnsOf(columns: Record<string, ColumnOptions & { name: string }>): StoreColumn[] {
  return Object.values(columns).map(({ name, type, array = false, nullable = false }) => ({
    name,
    type: `${type === 'timestamptz' ? 'timestamp with time zone' : String(type)}${array ? '[]' : ''}`,
    nullable,
  }));
}
