import type { ClaimRef } from '../../core/record.js';
import type { StepLog } from '../../core/step-log.js';
import type { RenewResult } from '../../core/store.js';
import { writtenTo } from './memory-record.js';
import type { MemoryTable } from './memory-table.js';

/** The finished steps of a memory store's records. */
export class MemoryStepLog implements StepLog {
  constructor(private readonly table: MemoryTable) {}

  async save(claim: ClaimRef, name: string, result: Uint8Array, leaseMs: number): Promise<RenewResult> {
    const now = this.table.now();
    const record = this.table.held(claim, now);
    if (!record) return 'lost';
    const steps = record.steps.has(name) ? record.steps : new Map(record.steps).set(name, new Uint8Array(result));
    this.table.put({ ...record, steps, leaseUntil: now + leaseMs });
    return writtenTo(record);
  }

  async load(claim: ClaimRef): Promise<ReadonlyMap<string, Uint8Array>> {
    const steps = this.table.held(claim, this.table.now())?.steps ?? [];
    return new Map([...steps].map(([name, result]) => [name, new Uint8Array(result)]));
  }
}
