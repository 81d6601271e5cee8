import type { EventLog } from '../../../lib/core/event-log.js';
import type { ClaimRef } from '../../../lib/core/record.js';
import type { StepLog } from '../../../lib/core/step-log.js';
import { MemoryEventLog } from '../../../lib/stores/memory/memory-event-log.js';
import type { MemoryRecord } from '../../../lib/stores/memory/memory-record.js';
import { MemoryStepLog } from '../../../lib/stores/memory/memory-step-log.js';
import { MemoryStore } from '../../../lib/stores/memory/memory-store.js';
import type { FakeClock } from '../../../lib/testing/index.js';

/** A memory store into which a bug can be put from outside. */
export class Mutable extends MemoryStore {
  constructor(protected readonly time: FakeClock) {
    super({ clock: time });
  }

  protected get records(): Map<string, MemoryRecord> {
    return this.table.records;
  }

  protected record(recordKey: string): MemoryRecord | undefined {
    return this.records.get(recordKey);
  }

  /** Changes the stored record behind the store's back. */
  protected change(recordKey: string, changes: Partial<MemoryRecord>): void {
    const record = this.records.get(recordKey);
    if (record) this.records.set(recordKey, { ...record, ...changes });
  }

  /** The record's own token, as a statement without a token in its WHERE would have it. */
  protected tokenless(recordKey: string): ClaimRef {
    return { recordKey, claimToken: this.record(recordKey)?.claimToken ?? '' };
  }

  /** An event log in which some calls are others. */
  protected log(changes: (inner: EventLog) => Partial<EventLog>): EventLog {
    const inner = new MemoryEventLog(this.table);
    const { append, read } = changes(inner);
    return { append: append ?? inner.append.bind(inner), read: read ?? inner.read.bind(inner) };
  }

  /** A log of steps in which some calls are others. */
  protected stepLog(changes: (inner: StepLog) => Partial<StepLog>): StepLog {
    const inner = new MemoryStepLog(this.table);
    const { save, load } = changes(inner);
    return { save: save ?? inner.save.bind(inner), load: load ?? inner.load.bind(inner) };
  }

  /** Makes a lapsed lease live again, as a statement that does not look at it would take it to be. */
  protected leaseless({ recordKey, claimToken }: ClaimRef): void {
    const record = this.record(recordKey);
    if (record?.claimToken === claimToken && record.state === 'in_progress') {
      this.change(recordKey, { leaseUntil: this.time.now() + 1 });
    }
  }
}

/** A planted bug: the store that has it, and a word from the title of a case that must notice. */
export interface Mutant {
  readonly noticedBy: RegExp;
  readonly Store: new (time: FakeClock) => MemoryStore;
}
