import type { ClaimRef } from '../../../lib/core/record.js';
import type { ClaimRequest, ClaimResult, Resolution, WriteResult } from '../../../lib/core/store.js';
import { Mutable, type Mutant } from './mutable.js';

type Began = { readonly began: boolean };

/** Bugs of `release`, `abandon`, `resolve`, `forget`, `purge` and `subscribe`. */
export const SETTLING_MUTANTS: Readonly<Record<string, Mutant>> = {
  'release does not look at the token': {
    noticedBy: /a write under a token that is not the record's/,
    Store: class extends Mutable {
      override release({ recordKey }: ClaimRef, options: Began): Promise<WriteResult> {
        return super.release(this.tokenless(recordKey), options);
      }
    },
  },
  'release does not look at the lease': {
    noticedBy: /a release after the run is lost once the lease is over/,
    Store: class extends Mutable {
      override release(claim: ClaimRef, options: Began): Promise<WriteResult> {
        this.leaseless(claim);
        return super.release(claim, options);
      }
    },
  },
  'an undo needs a live lease': {
    noticedBy: /by token only: after the lease/,
    Store: class extends Mutable {
      override async release(claim: ClaimRef, options: Began): Promise<WriteResult> {
        const leaseUntil = this.record(claim.recordKey)?.leaseUntil ?? 0;
        return leaseUntil <= this.time.now() ? 'lost' : super.release(claim, options);
      }
    },
  },
  'an undo forgets what was before': {
    noticedBy: /without a run leaves an abandoned record abandoned/,
    Store: class extends Mutable {
      override release(claim: ClaimRef, options: Began): Promise<WriteResult> {
        if (!options.began) this.change(claim.recordKey, { before: undefined, attempt: 1, tookOver: false });
        return super.release(claim, options);
      }
    },
  },
  'an undo repeated is lost': {
    noticedBy: /leaves no record where there was none/,
    Store: class extends Mutable {
      override async release(claim: ClaimRef, options: Began): Promise<WriteResult> {
        const live = this.record(claim.recordKey)?.state === 'in_progress';
        return live || options.began ? super.release(claim, options) : 'lost';
      }
    },
  },
  'an undo releases': {
    noticedBy: /leaves no record where there was none/,
    Store: class extends Mutable {
      override release(claim: ClaimRef): Promise<WriteResult> {
        return super.release(claim, { began: true });
      }
    },
  },
  'abandon counts a run that did not begin': {
    noticedBy: /an abandoned run that did not begin is not counted/,
    Store: class extends Mutable {
      override abandon(claim: ClaimRef): Promise<WriteResult> {
        return super.abandon(claim, { began: true });
      }
    },
  },
  'abandon leaves the lease running': {
    noticedBy: /an abandoned run ends the lease at once/,
    Store: class extends Mutable {
      override async abandon(claim: ClaimRef, options: Began): Promise<WriteResult> {
        const leaseUntil = this.record(claim.recordKey)?.leaseUntil ?? 0;
        const result = await super.abandon(claim, options);
        if (result === 'written') this.change(claim.recordKey, { leaseUntil });
        return result;
      }
    },
  },
  'abandon does not keep': {
    noticedBy: /an abandoned run that says keep stays/,
    Store: class extends Mutable {
      override abandon(claim: ClaimRef, { began }: Began): Promise<WriteResult> {
        return super.abandon(claim, { began });
      }
    },
  },
  'abandon always keeps': {
    noticedBy: /an abandoned run that does not say keep is as its claim said/,
    Store: class extends Mutable {
      override abandon(claim: ClaimRef, options: Began): Promise<WriteResult> {
        return super.abandon(claim, { ...options, keep: true });
      }
    },
  },
  'an undone takeover leaves its own keepAbandoned': {
    noticedBy: /a kept run is kept after an undone takeover/,
    Store: class extends Mutable {
      override async release(claim: ClaimRef, options: Began): Promise<WriteResult> {
        const keepAbandoned = this.record(claim.recordKey)?.keepAbandoned ?? false;
        const result = await super.release(claim, options);
        if (result === 'written' && !options.began) this.change(claim.recordKey, { keepAbandoned });
        return result;
      }
    },
  },
  'an abandoned record is never kept': {
    noticedBy: /an abandoned record that is kept survives/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, keepAbandoned: false });
      }
    },
  },
  'an abandoned record is always kept': {
    noticedBy: /a lapsed claim that is not kept ends/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, keepAbandoned: true });
      }
    },
  },
  'resolve settles a live claim': {
    noticedBy: /resolve is refused, and changes nothing/,
    Store: class extends Mutable {
      override resolve(recordKey: string, resolution: Resolution, retentionMs: number): Promise<boolean> {
        if (this.record(recordKey)?.state === 'in_progress')
          this.change(recordKey, { leaseUntil: 0, keepAbandoned: true });
        return super.resolve(recordKey, resolution, retentionMs);
      }
    },
  },
  'a late claim takes a resolved record for its own work': {
    noticedBy: /after its record was resolved as completed/,
    Store: class extends Mutable {
      override async resolve(recordKey: string, resolution: Resolution, retentionMs: number): Promise<boolean> {
        const claimToken = this.record(recordKey)?.claimToken;
        const settled = await super.resolve(recordKey, resolution, retentionMs);
        if (settled) this.change(recordKey, { claimToken });
        return settled;
      }
    },
  },
  'forget removes a live claim': {
    noticedBy: /forget does not touch a live claim/,
    Store: class extends Mutable {
      override async forget(recordKey: string): Promise<boolean> {
        return this.records.delete(recordKey);
      }
    },
  },
  'forget wakes nobody': {
    noticedBy: /woken when the record is forgotten/,
    Store: class extends Mutable {
      override async forget(recordKey: string): Promise<boolean> {
        const state = (await this.find(recordKey))?.state;
        return state !== undefined && state !== 'in_progress' && this.records.delete(recordKey);
      }
    },
  },
  'purge looks at the retention only': {
    noticedBy: /a live claim does not end with its retention/,
    Store: class extends Mutable {
      override async purge(limit: number): Promise<number> {
        const over = [...this.records.values()].filter(
          (record) => record.claimedAt + record.retentionMs <= this.time.now(),
        );
        for (const { recordKey } of over.slice(0, limit)) this.records.delete(recordKey);
        return Math.min(limit, over.length);
      }
    },
  },
  'purge knows no limit': {
    noticedBy: /purge removes what is over, no more than its limit/,
    Store: class extends Mutable {
      override purge(): Promise<number> {
        return super.purge(1_000_000);
      }
    },
  },
  'an ended subscription goes on': {
    noticedBy: /an ended subscription is not called/,
    Store: class extends Mutable {
      override subscribe(recordKey: string, wake: () => void): () => void {
        super.subscribe(recordKey, wake);
        return () => {};
      }
    },
  },
  'an operation is cut': {
    noticedBy: /255 characters/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, operation: request.operation.slice(0, 100) });
      }
    },
  },
};
