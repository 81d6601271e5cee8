import type { Journal } from './journal.js';
import { machineNow } from './settings.js';

const LOOK_MS = 50;

/** Notes when this process did not get to run for so long that a renewal may have come too late: a busy machine freezes as well. */
export function noteStalls(journal: Journal, server: string, leaseMs: number): void {
  let last = machineNow();
  setInterval(() => {
    const now = machineNow();
    if (now - last > leaseMs / 3) journal.write({ type: 'fault', kind: 'stall', server, from: last, to: now });
    last = now;
  }, LOOK_MS).unref();
}
