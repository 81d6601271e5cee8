import { createHash, createHmac } from 'node:crypto';

/**
 * SHA-256 (HMAC with it where a secret is given) over parts, each preceded by its length in bytes,
 * so that no two lists of parts give the same input: ('ab', 'c') is not ('a', 'bc').
 */
export function hashParts(parts: readonly (string | Uint8Array)[], secret?: string | Uint8Array): string {
  const hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret);
  for (const part of parts) {
    hash.update(`${typeof part === 'string' ? Buffer.byteLength(part) : part.byteLength}:`);
    hash.update(part);
  }
  return hash.digest('base64url');
}
