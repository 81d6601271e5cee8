import type { ClaimRef, RecordedAnswer, RecordView } from '../../../lib/core/record.js';
import type { RenewResult, WriteResult } from '../../../lib/core/store.js';
import { Mutable, type Mutant } from './mutable.js';

/** Bugs of `renew` and `complete`. */
export const COMPLETING_MUTANTS: Readonly<Record<string, Mutant>> = {
  'renew does not look at the token': {
    noticedBy: /a write under a token that is not the record's/,
    Store: class extends Mutable {
      override renew({ recordKey }: ClaimRef, leaseMs: number): Promise<RenewResult> {
        return super.renew(this.tokenless(recordKey), leaseMs);
      }
    },
  },
  'renew brings a lapsed lease back': {
    noticedBy: /after the lease every write is lost/,
    Store: class extends Mutable {
      override renew(claim: ClaimRef, leaseMs: number): Promise<RenewResult> {
        this.leaseless(claim);
        return super.renew(claim, leaseMs);
      }
    },
  },
  'renew adds to the old end': {
    noticedBy: /renew counts from now/,
    Store: class extends Mutable {
      override renew(claim: ClaimRef, leaseMs: number): Promise<RenewResult> {
        const left = (this.record(claim.recordKey)?.leaseUntil ?? 0) - this.time.now();
        return super.renew(claim, leaseMs + Math.max(0, left));
      }
    },
  },
  'complete does not look at the token': {
    noticedBy: /a foreign token cannot complete/,
    Store: class extends Mutable {
      override complete({ recordKey }: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        return super.complete(this.tokenless(recordKey), answer, retentionMs);
      }
    },
  },
  'complete does not look at the lease': {
    noticedBy: /after the lease every write is lost/,
    Store: class extends Mutable {
      override complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        this.leaseless(claim);
        return super.complete(claim, answer, retentionMs);
      }
    },
  },
  'complete repeated is lost': {
    noticedBy: /complete repeated by the same claim is written/,
    Store: class extends Mutable {
      override async complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        if (this.record(claim.recordKey)?.state === 'completed') return 'lost';
        return super.complete(claim, answer, retentionMs);
      }
    },
  },
  'complete repeated overwrites': {
    noticedBy: /complete repeated by the same claim is written/,
    Store: class extends Mutable {
      override async complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        const result = await super.complete(claim, answer, retentionMs);
        if (result === 'written') this.change(claim.recordKey, { answer });
        return result;
      }
    },
  },
  'the retention counts from the claim': {
    noticedBy: /counts from its completion, not from its claim/,
    Store: class extends Mutable {
      override async complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        const result = await super.complete(claim, answer, retentionMs);
        this.change(claim.recordKey, { settledAt: this.record(claim.recordKey)?.claimedAt });
        return result;
      }
    },
  },
  'a record lasts a millisecond longer': {
    noticedBy: /a completed record ends when its retention is over/,
    Store: class extends Mutable {
      override complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        return super.complete(claim, answer, retentionMs + 1);
      }
    },
  },
  'retentions count in 32 bits': {
    noticedBy: /a retention of weeks or years/,
    Store: class extends Mutable {
      override complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        return super.complete(claim, answer, retentionMs % 2 ** 31);
      }
    },
  },
  'a body is not copied on its way in': {
    noticedBy: /what a caller does to its answer later/,
    Store: class extends Mutable {
      override async complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        const result = await super.complete(claim, answer, retentionMs);
        if (this.record(claim.recordKey)?.answer !== answer) this.change(claim.recordKey, { answer });
        return result;
      }
    },
  },
  'a body is not copied on its way out': {
    noticedBy: /what a reader does to an answer/,
    Store: class extends Mutable {
      override async find(recordKey: string): Promise<RecordView | undefined> {
        const view = await super.find(recordKey);
        return view?.answer && { ...view, answer: this.record(recordKey)!.answer! };
      }
    },
  },
  'a body is kept as text': {
    noticedBy: /a body of all 256 byte values/,
    Store: class extends Mutable {
      override complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        if (answer.kept !== true) return super.complete(claim, answer, retentionMs);
        const body = new TextEncoder().encode(new TextDecoder().decode(answer.body));
        return super.complete(claim, { ...answer, body }, retentionMs);
      }
    },
  },
  'headers are kept as an object': {
    noticedBy: /headers are kept in their order/,
    Store: class extends Mutable {
      override complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        const headers = answer.kept ? Object.entries(Object.fromEntries(answer.headers)) : [];
        return super.complete(claim, answer.kept ? { ...answer, headers } : answer, retentionMs);
      }
    },
  },
  'no status is kept as 0': {
    noticedBy: /every status is kept/,
    Store: class extends Mutable {
      override complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
        return super.complete(
          claim,
          answer.kept === 'stream' ? answer : { ...answer, status: answer.status ?? 0 },
          retentionMs,
        );
      }
    },
  },
};
