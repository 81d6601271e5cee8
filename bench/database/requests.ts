import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { ClaimRequest, RecordedAnswer } from 'nestjs-idempotency';

export const DAY_MS = 86_400_000;

/** What an application's request asks of the store, each time with another key. */
export function newClaim(): ClaimRequest {
  return {
    recordKey: randomBytes(32).toString('base64url'),
    operation: 'POST /orders',
    fingerprint: createHash('sha256').update('the order').digest('hex'),
    claimToken: randomUUID(),
    leaseMs: 30_000,
    retentionMs: DAY_MS,
    keepAbandoned: true,
    takeOver: false,
  };
}

/** What the bench's handler answers. */
export const ANSWER: RecordedAnswer = {
  kept: true,
  status: 201,
  headers: [['content-type', 'application/json; charset=utf-8']],
  body: Buffer.alloc(340, '{"id":"order-1","status":"accepted"}'),
};
