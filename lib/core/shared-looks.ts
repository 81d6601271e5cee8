import type { ClaimRequest, ClaimResult } from './store.js';

/**
 * Of the waiters of one record in this process, one asks the store and the others take its word. A
 * hint wakes all of them at once: as many claims as there are waiters would queue for the store's few
 * connections, and the last would learn late what the first was told.
 */
export class SharedLooks {
  private readonly underWay = new Map<string, Promise<ClaimResult>>();

  constructor(private readonly claim: (request: ClaimRequest) => Promise<ClaimResult>) {}

  async ask(request: ClaimRequest): Promise<ClaimResult> {
    const question = `${request.recordKey} ${request.takeOver} ${request.fingerprint}`;
    const earlier = this.underWay.get(question);
    if (earlier) {
      // Sent before this waiter was woken, so it may not know what the waiter was woken for.
      const said = asOthersSee(await earlier, request);
      if (said.kind !== 'in_progress') return said;
    }
    const shared = this.underWay.get(question);
    if (shared) return asOthersSee(await shared, request);
    const look = this.claim(request);
    this.underWay.set(question, look);
    try {
      return await look;
    } finally {
      this.underWay.delete(question);
    }
  }
}

/** A claim is its maker's alone; to everybody else the operation runs. */
function asOthersSee(result: ClaimResult, { leaseMs }: ClaimRequest): ClaimResult {
  return result.kind === 'claimed' ? { kind: 'in_progress', leaseRemainingMs: leaseMs, runningMs: 0 } : result;
}
