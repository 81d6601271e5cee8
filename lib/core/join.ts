import { Bell } from './bell.js';
import { monotonicNow } from './clock.js';
import type { ClaimResult, IdempotencyStore } from './store.js';

/** The first looks come soon (a short call has ended by then), later ones seldom: hints do the waking. */
const FIRST_POLL_MS = 50;
const LONGEST_POLL_MS = 1_000;

export interface Waiting {
  readonly store: IdempotencyStore;
  readonly recordKey: string;
  readonly timeoutMs: number;
  readonly callerLeft: AbortSignal | undefined;
  /** Whether a running claim need not be waited for any longer: its stream can be followed. */
  readonly enough?: (running: Extract<ClaimResult, { kind: 'in_progress' }>) => boolean;
  /** Asks for the claim again. */
  readonly ask: () => Promise<ClaimResult>;
}

/**
 * Waits until the running request has an outcome and gives the answer to the claim then; after
 * `timeoutMs`, or when the caller has left, the latest answer as it is. A waiter holds nothing while it waits: no
 * connection, no claim. Where the running one failed and released, each waiter asks for the claim
 * and the store lets one of them have it.
 */
export async function waitForRunning(waiting: Waiting): Promise<{ result: ClaimResult; askedAt: number }> {
  const until = monotonicNow() + waiting.timeoutMs;
  const bell = new Bell();
  // Subscribed before the first look: what settles between the look and the wait rings the bell.
  const unsubscribe = waiting.store.subscribe?.(waiting.recordKey, () => bell.ring());
  const onLeft = (): void => bell.ring();
  waiting.callerLeft?.addEventListener('abort', onLeft, { once: true });
  try {
    let poll = FIRST_POLL_MS;
    for (;;) {
      const askedAt = monotonicNow();
      const result = await waiting.ask();
      const restMs = until - monotonicNow();
      if (result.kind !== 'in_progress' || waiting.enough?.(result)) return { result, askedAt };
      if (restMs <= 0) return { result, askedAt };
      // The lease may end before the next poll; then the record is abandoned and no hint tells.
      if (!waiting.callerLeft?.aborted) {
        await bell.wait(Math.min(poll, restMs, Math.max(1, result.leaseRemainingMs + 1)));
      }
      // Not asked once more: it might win the claim, for nobody.
      if (waiting.callerLeft?.aborted) return { result, askedAt };
      poll = Math.min(poll * 2, LONGEST_POLL_MS);
    }
  } finally {
    unsubscribe?.();
    waiting.callerLeft?.removeEventListener('abort', onLeft);
  }
}
