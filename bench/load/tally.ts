import type { RoundResult } from './rounds.js';

/** Counts what has come back. */
export class Tally {
  private readonly latencies: number[] = [];
  private failures = 0;
  private firstFailure: string | undefined;
  private count = 0;
  private last: number;
  private readonly begun = performance.now();

  constructor() {
    this.last = this.begun;
  }

  arrived(count: number, since?: number): void {
    this.last = performance.now();
    this.count += count;
    if (since !== undefined) this.latencies.push(this.last - since);
  }

  failed(why: string): void {
    this.failures += 1;
    this.firstFailure ??= why;
  }

  /** Up to the last arrival: what comes after it is the generator's own tidying. */
  result(): RoundResult {
    const sorted = Float64Array.from(this.latencies).sort();
    const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
    return {
      count: this.count,
      seconds: (this.last - this.begun) / 1_000,
      p50: at(0.5),
      p99: at(0.99),
      failures: this.failures,
      ...(this.firstFailure !== undefined && { firstFailure: this.firstFailure }),
    };
  }
}
