import { randomUUID } from 'node:crypto';
import { ActiveRun, type ActiveRunOptions } from '../../../lib/core/active-run.js';
import { monotonicNow } from '../../../lib/core/clock.js';
import type { RunPolicy } from '../../../lib/core/policy.js';
import type { KeptAnswer } from '../../../lib/core/record.js';
import type { ClaimRequest, IdempotencyStore } from '../../../lib/core/store.js';
import { MemoryStore, memoryStore } from '../../../lib/stores/memory/memory-store.js';
import { faultStore, type FaultControls } from '../../../lib/testing/index.js';

export const RECORD_KEY = 'r'.repeat(43);
export const ANSWER: KeptAnswer = { kept: true, status: 200, headers: [], body: Buffer.from('first') };

export function claimRequest(changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    recordKey: RECORD_KEY,
    operation: 'pay',
    fingerprint: 'f',
    claimToken: randomUUID(),
    leaseMs: 60_000,
    retentionMs: 60_000,
    keepAbandoned: true,
    takeOver: false,
    ...changes,
  };
}

export const POLICY: RunPolicy = {
  leaseMs: 60_000,
  maxDurationMs: 60_000,
  retentionMs: 60_000,
  inFlight: 'reject',
  followStreams: false,
  joinTimeoutMs: 10_000,
  afterCrash: 'block',
  transaction: false,
  maxRecordBytes: 1_000_000,
  stream: { flushAfterMs: 1, flushItems: 1, flushBytes: 1, maxBytes: 1_000_000, maxItems: 1_000 },
};

/** A memory store that can be made to fail. */
export function storeWithFaults(): MemoryStore & FaultControls {
  return faultStore(memoryStore());
}

/** A run that has won its claim. End it. */
export async function startRun(
  store: IdempotencyStore,
  options: Partial<ActiveRunOptions> = {},
  request: ClaimRequest = claimRequest(options.leaseMs === undefined ? {} : { leaseMs: options.leaseMs }),
): Promise<ActiveRun> {
  const sentAt = monotonicNow();
  const result = await store.claim(request);
  if (result.kind !== 'claimed') throw new Error(`not claimed: ${result.kind}`);
  return new ActiveRun(
    result.claim,
    store,
    {
      key: 'k',
      operation: 'pay',
      leaseMs: request.leaseMs,
      maxDurationMs: 60_000,
      maxRecordBytes: 1_000_000,
      ...options,
    },
    sentAt,
  );
}
