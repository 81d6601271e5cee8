import { createHash, createHmac } from 'node:crypto';

/**
 * SHA-256 (HMAC with it where a secret is given) over parts, each preceded by its length in bytes and
 * its kind, so that no two lists of parts give the same input: ('ab', 'c') is not ('a', 'bc').
 *
 * Texts are hashed as UTF-16: UTF-8 writes every half of a surrogate pair as the same replacement
 * character, and two tenants whose names differ there would be one.
 */
export function hashParts(parts: readonly (string | Uint8Array)[], secret?: string | Uint8Array): string {
  const hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret);
  for (const part of parts) {
    if (typeof part === 'string') hash.update(`${2 * part.length}s:`).update(part, 'utf16le');
    else hash.update(`${part.byteLength}b:`).update(part);
  }
  return hash.digest('base64url');
}
