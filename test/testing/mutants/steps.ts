import type { ClaimRequest, ClaimResult } from '../../../lib/core/store.js';
import { Mutable, type Mutant } from './mutable.js';

/** Bugs of `save` and `load`, and of what later claims make of steps. */
export const STEP_MUTANTS: Readonly<Record<string, Mutant>> = {
  'save does not look at the token': {
    noticedBy: /a save under a foreign token is lost/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        save: ({ recordKey }, name, result, leaseMs) => inner.save(this.tokenless(recordKey), name, result, leaseMs),
      }));
    },
  },
  'save does not look at the lease': {
    noticedBy: /a claim can neither save nor load once its lease is over/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        save: (claim, name, result, leaseMs) => {
          this.leaseless(claim);
          return inner.save(claim, name, result, leaseMs);
        },
      }));
    },
  },
  'save does not renew': {
    noticedBy: /a save sets the lease/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        save: (claim, name, result) => {
          const leaseUntil = this.record(claim.recordKey)?.leaseUntil ?? 0;
          return inner.save(claim, name, result, leaseUntil - this.time.now());
        },
      }));
    },
  },
  'a repeated save does not renew': {
    noticedBy: /a repeated save moves the lease/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        save: async (claim, name, result, leaseMs) => {
          const known = (await inner.load(claim)).has(name);
          return known ? 'written' : inner.save(claim, name, result, leaseMs);
        },
      }));
    },
  },
  'the last result of a name stays': {
    noticedBy: /the first result of a name stays/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        save: async (claim, name, result, leaseMs) => {
          const saved = await inner.save(claim, name, result, leaseMs);
          const steps = this.record(claim.recordKey)?.steps ?? [];
          if (saved === 'written') this.change(claim.recordKey, { steps: new Map(steps).set(name, result) });
          return saved;
        },
      }));
    },
  },
  'names are compared without regard to case': {
    noticedBy: /names are kept and compared as they are/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        save: (claim, name, result, leaseMs) => inner.save(claim, name.toLowerCase(), result, leaseMs),
      }));
    },
  },
  'an empty result is no result': {
    noticedBy: /an empty result is kept/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        load: async (claim) => new Map([...(await inner.load(claim))].filter(([, { byteLength }]) => byteLength > 0)),
      }));
    },
  },
  'load does not look at the token': {
    noticedBy: /a save under a foreign token is lost/,
    Store: class extends Mutable {
      override readonly steps = this.stepLog((inner) => ({
        load: ({ recordKey }) => inner.load(this.tokenless(recordKey)),
      }));
    },
  },
  'steps are lost with their attempt': {
    noticedBy: /steps are kept over attempts/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const own = this.record(request.recordKey)?.claimToken === request.claimToken;
        const result = await super.claim(request);
        if (result.kind === 'claimed' && !own) this.change(request.recordKey, { steps: new Map() });
        return result;
      }
    },
  },
  'steps of a key survive its record': {
    noticedBy: /steps are gone with their record once it was forgotten/,
    Store: class extends Mutable {
      private readonly kept = new Map<string, ReadonlyMap<string, Uint8Array>>();

      override readonly steps = this.stepLog((inner) => ({
        save: async (claim, name, result, leaseMs) => {
          const saved = await inner.save(claim, name, result, leaseMs);
          const steps = this.record(claim.recordKey)?.steps;
          if (saved === 'written' && steps) this.kept.set(claim.recordKey, steps);
          return saved;
        },
      }));

      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const result = await super.claim(request);
        const steps = this.kept.get(request.recordKey);
        if (result.kind === 'claimed' && steps) this.change(request.recordKey, { steps });
        return result;
      }
    },
  },
  'steps of a released record pass to another fingerprint': {
    noticedBy: /a released record that another fingerprint claims has no steps left/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const before = this.record(request.recordKey);
        const result = await super.claim(request);
        if (result.kind === 'claimed' && before?.state === 'released' && before.settledAt !== undefined)
          this.change(request.recordKey, { steps: before.steps });
        return result;
      }
    },
  },
};
