import { hashParts } from './hash.js';
import { canonicalText } from './canonical.js';

/** What a fingerprint is taken of: named parts, in a fixed order. */
export type FingerprintParts = readonly (readonly [name: string, content: string | Uint8Array])[];

/**
 * The fingerprint of a request: SHA-256 over its parts, HMAC where the application gives a secret
 * (a plain hash of a guessable body can be guessed from a copy of the database).
 */
export function fingerprintOf(parts: FingerprintParts, secret?: string | Uint8Array): string {
  const flat: (string | Uint8Array)[] = ['fingerprint'];
  for (const [name, content] of parts) flat.push(name, content);
  return hashParts(flat, secret);
}

/** The fingerprint of a payload that is a value: a job, a message, an argument. */
export function fingerprintOfPayload(payload: unknown, secret?: string | Uint8Array): string {
  return fingerprintOf([['payload', canonicalText(payload)]], secret);
}
