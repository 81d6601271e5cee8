import type { StreamBatch } from '../../../lib/core/event-log.js';
import type { ClaimRef } from '../../../lib/core/record.js';
import type { ClaimRequest, ClaimResult, WriteResult } from '../../../lib/core/store.js';
import { MemoryEventLog } from '../../../lib/stores/memory/memory-event-log.js';
import type { MemoryRecord } from '../../../lib/stores/memory/memory-record.js';
import type { MemoryTable } from '../../../lib/stores/memory/memory-table.js';
import { Mutable, type Mutant } from './mutable.js';

type Began = { readonly began: boolean };

class Appending extends Mutable {
  protected tail(recordKey: string): number {
    return this.record(recordKey)?.stream?.items.length ?? 0;
  }

  protected isRepeated({ recordKey }: ClaimRef, { firstSeq, items }: StreamBatch): boolean {
    return firstSeq + items.length - 1 === this.tail(recordKey);
  }
}

/** Bugs of `append`, and of what later calls make of a log. */
export const APPENDING_MUTANTS: Readonly<Record<string, Mutant>> = {
  'append does not look at the token': {
    noticedBy: /an append under a foreign token is lost/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: ({ recordKey }, batch, leaseMs) => inner.append(this.tokenless(recordKey), batch, leaseMs),
      }));
    },
  },
  'append does not look at the lease': {
    noticedBy: /an append of a claim is lost.* once its lease is over/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: (claim, batch, leaseMs) => {
          this.leaseless(claim);
          return inner.append(claim, batch, leaseMs);
        },
      }));
    },
  },
  'append looks at the token only': {
    noticedBy: /an append of a claim is lost.* once it has completed/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: async (claim, batch, leaseMs) => {
          const record = this.record(claim.recordKey);
          if (record?.claimToken !== claim.claimToken) return 'lost';
          this.change(claim.recordKey, { state: 'in_progress', leaseUntil: this.time.now() + 1 });
          const result = await inner.append(claim, batch, leaseMs);
          this.change(claim.recordKey, { state: record.state });
          return result;
        },
      }));
    },
  },
  'append does not renew': {
    noticedBy: /an append sets the lease to end that long from now/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: (claim, batch) => {
          const leaseUntil = this.record(claim.recordKey)?.leaseUntil ?? 0;
          return inner.append(claim, batch, leaseUntil - this.time.now());
        },
      }));
    },
  },
  'a repeated batch is lost': {
    noticedBy: /a repeated batch, whose reply was lost, is written/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: async (claim, batch, leaseMs) =>
          this.isRepeated(claim, batch) ? 'lost' : inner.append(claim, batch, leaseMs),
      }));
    },
  },
  'a repeated batch is appended twice': {
    noticedBy: /a repeated batch, whose reply was lost, is written/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: (claim, batch, leaseMs) => {
          const firstSeq = this.isRepeated(claim, batch) ? this.tail(claim.recordKey) + 1 : batch.firstSeq;
          return inner.append(claim, { ...batch, firstSeq }, leaseMs);
        },
      }));
    },
  },
  'a repeated batch does not renew': {
    noticedBy: /a repeated batch moves the lease/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: async (claim, batch, leaseMs) =>
          this.isRepeated(claim, batch) ? super.renew(claim, this.left(claim)) : inner.append(claim, batch, leaseMs),
      }));

      private left({ recordKey }: ClaimRef): number {
        return (this.record(recordKey)?.leaseUntil ?? 0) - this.time.now();
      }
    },
  },
  'a gap is closed up': {
    noticedBy: /a batch that would leave a gap is lost/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: (claim, batch, leaseMs) => {
          const firstSeq = Math.min(batch.firstSeq, this.tail(claim.recordKey) + 1);
          return inner.append(claim, { ...batch, firstSeq }, leaseMs);
        },
      }));
    },
  },
  'an overlap is appended': {
    noticedBy: /a batch that overlaps the log is lost/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: (claim, batch, leaseMs) => {
          const after = this.isRepeated(claim, batch) ? batch.firstSeq : this.tail(claim.recordKey) + 1;
          return inner.append(claim, { ...batch, firstSeq: Math.max(batch.firstSeq, after) }, leaseMs);
        },
      }));
    },
  },
  'empty items are left out': {
    noticedBy: /empty items, alone and between others/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: (claim, batch, leaseMs) => {
          const items = batch.items.filter(({ byteLength }) => byteLength > 0);
          return inner.append(claim, { ...batch, items }, leaseMs);
        },
      }));
    },
  },
  'items are kept as text': {
    noticedBy: /items of all 256 byte values/,
    Store: class extends Appending {
      override readonly events = this.log((inner) => ({
        append: (claim, batch, leaseMs) => {
          const items = batch.items.map((bytes) => new TextEncoder().encode(new TextDecoder().decode(bytes)));
          return inner.append(claim, { ...batch, items }, leaseMs);
        },
      }));
    },
  },
  'append wakes nobody': {
    noticedBy: /a follower is woken when another client appends/,
    Store: class extends Appending {
      override readonly events = new MemoryEventLog(
        Object.create(this.table, { wake: { value: () => {} } }) as MemoryTable,
      );
    },
  },
  'a later attempt goes on in the old log': {
    noticedBy: /a takeover begins the stream anew/,
    Store: class extends Appending {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const old = this.record(request.recordKey);
        const result = await super.claim(request);
        if (result.kind === 'claimed' && result.claim.recordId === old?.recordId)
          this.change(request.recordKey, { stream: old.stream });
        return result;
      }
    },
  },
  'an attempt that is not counted leaves its items': {
    noticedBy: /an attempt that is not counted leaves no items/,
    Store: class extends Appending {
      private readonly left = new Map<string, MemoryRecord>();

      override async abandon(claim: ClaimRef, options: Began): Promise<WriteResult> {
        const record = this.record(claim.recordKey);
        const result = await super.abandon(claim, options);
        if (!options.began && record) this.left.set(claim.recordKey, record);
        return result;
      }

      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const left = this.left.get(request.recordKey);
        const result = await super.claim(request);
        if (result.kind === 'claimed' && left?.attempt === result.claim.attempt)
          this.change(request.recordKey, { stream: left.stream });
        return result;
      }
    },
  },
};
