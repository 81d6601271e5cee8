import type { ClaimRef } from '../../../lib/core/record.js';
import type { ClaimRequest, ClaimResult, RenewResult } from '../../../lib/core/store.js';
import { Mutable, type Mutant } from './mutable.js';

/** Bugs of `requestCancel`. */
export const CANCELLING_MUTANTS: Readonly<Record<string, Mutant>> = {
  'a request to cancel marks the next claim, too': {
    noticedBy: /a claim after a lapsed lease is not asked to cancel/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const before = this.record(request.recordKey);
        const result = await super.claim(request);
        if (result.kind === 'claimed' && before?.cancelRequested && before.recordId === result.claim.recordId)
          this.change(request.recordKey, { cancelRequested: true });
        return result;
      }
    },
  },
  'a request to cancel is told once': {
    noticedBy: /is told so by each renewal from then on/,
    Store: class extends Mutable {
      override async renew(claim: ClaimRef, leaseMs: number): Promise<RenewResult> {
        const result = await super.renew(claim, leaseMs);
        this.change(claim.recordKey, { cancelRequested: false });
        return result;
      }
    },
  },
  'a renewal that tells of a request does not renew': {
    noticedBy: /is told so by each renewal from then on/,
    Store: class extends Mutable {
      override async renew(claim: ClaimRef, leaseMs: number): Promise<RenewResult> {
        const leaseUntil = this.record(claim.recordKey)?.leaseUntil;
        const result = await super.renew(claim, leaseMs);
        if (result === 'cancel_requested' && leaseUntil !== undefined) this.change(claim.recordKey, { leaseUntil });
        return result;
      }
    },
  },
  'an append that tells of a request is not written': {
    noticedBy: /is told so by each append, which is written/,
    Store: class extends Mutable {
      override readonly events = this.log((inner) => ({
        append: async (claim, batch, leaseMs) =>
          this.record(claim.recordKey)?.cancelRequested
            ? this.renew(claim, leaseMs)
            : inner.append(claim, batch, leaseMs),
      }));
    },
  },
  'append does not tell of a request': {
    noticedBy: /is told so by each append/,
    Store: class extends Mutable {
      override readonly events = this.log((inner) => ({
        append: async (claim, batch, leaseMs) =>
          (await inner.append(claim, batch, leaseMs)) === 'lost' ? 'lost' : 'written',
      }));
    },
  },
  'save does not tell of a request': {
    noticedBy: /is told so by each save/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        save: async (claim, name, result, leaseMs) =>
          (await inner.save(claim, name, result, leaseMs)) === 'lost' ? 'lost' : 'written',
      }));
    },
  },
  'a request to cancel does not look at the lease': {
    noticedBy: /nothing is cancelled, .* its lease is over/,
    Store: class extends Mutable {
      override async requestCancel(recordKey: string): Promise<boolean> {
        if (this.record(recordKey)?.state !== 'in_progress') return false;
        this.change(recordKey, { cancelRequested: true });
        return true;
      }
    },
  },
  'a request to cancel finds any record': {
    noticedBy: /nothing is cancelled, .* it has completed/,
    Store: class extends Mutable {
      override async requestCancel(recordKey: string): Promise<boolean> {
        await super.requestCancel(recordKey);
        return (await this.find(recordKey)) !== undefined;
      }
    },
  },
};
