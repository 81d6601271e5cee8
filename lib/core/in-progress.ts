import { IdempotencyInProgressError } from './errors.js';

/** 1 to 59 s is the range that every client SDK looked at heeds: some cap at 60, one gives up beyond 120. */
const LONGEST_RETRY_AFTER = 59;

/** Enough operations for any application; beyond it the oldest is dropped, so that names made of data cannot grow it. */
const MAX_OPERATIONS = 1_000;

/** How much the latest duration counts in the running mean. */
const WEIGHT = 0.2;

/** What each operation usually takes in this process, as an exponentially weighted mean. */
export class UsualDurations {
  private readonly means = new Map<string, number>();

  add(operation: string, ms: number): void {
    const mean = this.means.get(operation);
    if (mean === undefined && this.means.size >= MAX_OPERATIONS) {
      this.means.delete(this.means.keys().next().value!);
    }
    this.means.set(operation, mean === undefined ? ms : mean + WEIGHT * (ms - mean));
  }

  of(operation: string): number | undefined {
    return this.means.get(operation);
  }
}

/** A 409 with the time after which asking again is worth it: the rest of the usual duration, else of the lease. */
export function inProgressError(
  running: { readonly leaseRemainingMs: number; readonly runningMs: number },
  usualMs: number | undefined,
): IdempotencyInProgressError {
  const restMs =
    usualMs !== undefined && usualMs > running.runningMs ? usualMs - running.runningMs : running.leaseRemainingMs;
  // A run that has outlasted its usual time is renewed over and over; its lease says nothing, so ask soon.
  const soonMs = usualMs !== undefined && usualMs <= running.runningMs ? 1_000 : restMs;
  const seconds = Math.min(LONGEST_RETRY_AFTER, Math.max(1, Math.ceil(soonMs / 1_000)));
  return new IdempotencyInProgressError(
    'A request with this idempotency key is still running. Ask again later.',
    seconds,
  );
}
