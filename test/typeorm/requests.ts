import { randomBytes, randomUUID } from 'node:crypto';
import type { KeptAnswer } from '../../lib/core/record.js';
import type { ClaimRequest } from '../../lib/core/store.js';

export const HOUR_MS = 3_600_000;

/** A claim request of a new key and token: lease a minute, retention an hour. */
export function request(changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    recordKey: randomBytes(32).toString('base64url'),
    operation: 'POST /orders',
    fingerprint: 'fingerprint',
    claimToken: randomUUID(),
    ...{ leaseMs: 60_000, retentionMs: HOUR_MS, keepAbandoned: true, takeOver: false },
    ...changes,
  };
}

export function answer(text = 'done'): KeptAnswer {
  return { kept: true, status: 201, headers: [], body: Buffer.from(text) };
}
