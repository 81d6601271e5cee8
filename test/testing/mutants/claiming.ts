import { setImmediate } from 'node:timers/promises';
import type { ClaimRequest, ClaimResult } from '../../../lib/core/store.js';
import { Mutable, type Mutant } from './mutable.js';

/** Bugs of `claim`. */
export const CLAIMING_MUTANTS: Readonly<Record<string, Mutant>> = {
  'claim reads, waits, then writes': {
    noticedBy: /of 100 claims of a new key one wins/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const seen = this.record(request.recordKey);
        await setImmediate();
        if (seen) this.records.set(request.recordKey, seen);
        else this.records.delete(request.recordKey);
        return super.claim(request);
      }
    },
  },
  'takeover reads, waits, then writes': {
    noticedBy: /of 50 takeovers/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const seen = this.record(request.recordKey);
        if (request.takeOver) await setImmediate();
        if (request.takeOver && seen) this.records.set(request.recordKey, seen);
        return super.claim(request);
      }
    },
  },
  'a repeated claim is refused as in progress': {
    noticedBy: /rule 2: a claim repeated with its own token/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        const own = this.record(request.recordKey)?.claimToken === request.claimToken;
        return super.claim(own ? { ...request, claimToken: 'another' } : request);
      }
    },
  },
  'a repeated claim moves the lease': {
    noticedBy: /rule 2: a claim repeated with its own token/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const result = await super.claim(request);
        if (result.kind === 'claimed') await super.renew(request, request.leaseMs);
        return result;
      }
    },
  },
  'a live claim is taken over': {
    noticedBy: /rule 7: takeOver does not touch a live claim/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        if (request.takeOver) this.change(request.recordKey, { leaseUntil: this.time.now() });
        return super.claim(request);
      }
    },
  },
  'an abandoned record is taken over unasked': {
    noticedBy: /rule 8: an abandoned record is told/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, takeOver: true });
      }
    },
  },
  'takeOver unless kept takes over all': {
    noticedBy: /rule 8: takeOver unless kept claims what would end by itself/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, takeOver: request.takeOver !== false });
      }
    },
  },
  'takeOver unless kept takes over nothing': {
    noticedBy: /rule 8: takeOver unless kept claims what would end by itself/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, takeOver: request.takeOver === true });
      }
    },
  },
  'the fingerprint is not compared': {
    noticedBy: /rule 5: another fingerprint is refused once/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, fingerprint: 'one for all' });
      }
    },
  },
  'an empty fingerprint matches all': {
    noticedBy: /an empty one is one like any other/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        const fingerprint = request.fingerprint || (this.record(request.recordKey)?.fingerprint ?? '');
        return super.claim({ ...request, fingerprint });
      }
    },
  },
  'a released record keeps its fingerprint': {
    noticedBy: /rule 4/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const record = this.record(request.recordKey);
        if (record?.state === 'released' && record.fingerprint !== request.fingerprint) return { kind: 'reused' };
        return super.claim(request);
      }
    },
  },
  'fencing tokens start anew with each record': {
    noticedBy: /the fencing token increases over a purge/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const result = await super.claim(request);
        if (result.kind !== 'claimed') return result;
        const fencingToken = result.claim.attempt;
        this.change(request.recordKey, { fencingToken });
        return { kind: 'claimed', claim: { ...result.claim, fencingToken } };
      }
    },
  },
  'a lease lasts a millisecond longer': {
    noticedBy: /a lease ends by itself/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, leaseMs: request.leaseMs + 1 });
      }
    },
  },
  'leases count in 32 bits': {
    noticedBy: /a lease of weeks/,
    Store: class extends Mutable {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, leaseMs: request.leaseMs % 2 ** 31 });
      }
    },
  },
};
