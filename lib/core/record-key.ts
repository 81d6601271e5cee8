import { hashParts } from './hash.js';

/** What names a record: who owns the key, what it is for, and the key that the client sent. */
export interface RecordName {
  /** Who owns the key: a tenant, a user, an API client, or `'global'`. */
  readonly scope: string;
  /** HTTP method and route pattern (`'POST /v1/charges'`), or a name of your own. */
  readonly operation: string;
  /** The idempotency key. */
  readonly key: string;
}

/**
 * The record's key in the store: 43 characters that say nothing about scope and key, and that no
 * choice of key can make equal to those of another scope or operation.
 */
export function recordKeyOf({ scope, operation, key }: RecordName): string {
  return hashParts(['record', scope, operation, key]);
}
