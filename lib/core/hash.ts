import { createHmac, hash } from 'node:crypto';

/** Most inputs are a request's few hundred bytes, and are written here, one after the other, before they are hashed. */
const scratch = Buffer.allocUnsafeSlow(16 * 1024);

/**
 * SHA-256 (HMAC with it where a secret is given) over parts, each preceded by its length in bytes and
 * its kind, so that no two lists of parts give the same input: ('ab', 'c') is not ('a', 'bc').
 *
 * Texts (and what precedes a part) are hashed as UTF-16: UTF-8 writes every half of a surrogate pair as the same replacement
 * character, and two tenants whose names differ there would be one.
 */
export function hashParts(parts: readonly (string | Uint8Array)[], secret?: string | Uint8Array): string {
  // Texts that follow each other are one: a write into the buffer costs more than a hundred characters of it.
  const pieces: (string | Uint8Array)[] = [];
  let text = '';
  for (const part of parts) {
    if (typeof part === 'string') text += `${2 * part.length}s:${part}`;
    else {
      pieces.push(`${text}${part.byteLength}b:`, part);
      text = '';
    }
  }
  pieces.push(text);
  let length = 0;
  for (const piece of pieces) length += bytesOf(piece);
  const input = length <= scratch.length ? scratch.subarray(0, length) : Buffer.allocUnsafe(length);
  let at = 0;
  for (const piece of pieces) {
    if (typeof piece === 'string') input.write(piece, at, 'utf16le');
    else input.set(piece, at);
    at += bytesOf(piece);
  }
  // In one call: a hash object and a call for each part cost more than the hashing.
  if (secret === undefined) return hash('sha256', input, 'base64url');
  return createHmac('sha256', secret).update(input).digest('base64url');
}

const bytesOf = (part: string | Uint8Array): number => (typeof part === 'string' ? 2 * part.length : part.byteLength);
