import {
  IdempotencyKeyReusedError,
  IdempotencyOutcomeUnknownError,
  IdempotencyResponseNotKeptError,
  IdempotencyStoreError,
} from './errors.js';
import type { RecordView } from './record.js';
import type { IdempotencyStore } from './store.js';

export function reusedError(): IdempotencyKeyReusedError {
  return new IdempotencyKeyReusedError(
    'This idempotency key was used with another request. Use a new key for a new request.',
  );
}

export function outcomeUnknownError(cause?: unknown): IdempotencyOutcomeUnknownError {
  return new IdempotencyOutcomeUnknownError(
    'An earlier attempt ended without telling its outcome, and the operation must not run twice. Find out what happened before you send it under another key.',
    { cause },
  );
}

export function streamGoneError(): IdempotencyResponseNotKeptError {
  return new IdempotencyResponseNotKeptError(
    'The stream that Last-Event-ID is from is gone, and nothing was run. Send the request without Last-Event-ID to begin another one.',
    { param: 'Last-Event-ID' },
  );
}

/** A read that no answer can do without; whatever fails in it is the store being away. */
export async function findOrUnavailable(store: IdempotencyStore, recordKey: string): Promise<RecordView | undefined> {
  try {
    return await store.find(recordKey);
  } catch (error) {
    if (error instanceof IdempotencyStoreError) throw error;
    throw new IdempotencyStoreError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
