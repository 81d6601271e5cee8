import { createHmac, hash } from 'node:crypto';

/** Most inputs are a request's few hundred bytes, and are written here, one after the other, before they are hashed. */
const scratch = Buffer.allocUnsafeSlow(16 * 1024);

/**
 * SHA-256 (HMAC with it where a secret is given) over parts, each preceded by its length in bytes and
 * its kind, so that no two lists of parts give the same input: ('ab', 'c') is not ('a', 'bc').
 *
 * Texts are hashed as UTF-16: UTF-8 writes every half of a surrogate pair as the same replacement
 * character, and two tenants whose names differ there would be one.
 */
export function hashParts(parts: readonly (string | Uint8Array)[], secret?: string | Uint8Array): string {
  const heads = parts.map(headOf);
  let length = 0;
  for (let i = 0; i < parts.length; i += 1) length += heads[i]!.length + bytesOf(parts[i]!);
  const input = length <= scratch.length ? scratch.subarray(0, length) : Buffer.allocUnsafe(length);
  let at = 0;
  for (let i = 0; i < parts.length; i += 1) {
    const part = parts[i]!;
    at += input.write(heads[i]!, at, 'latin1');
    if (typeof part === 'string') at += input.write(part, at, 'utf16le');
    else {
      input.set(part, at);
      at += part.byteLength;
    }
  }
  // In one call: a hash object and a call for each part cost more than the hashing.
  if (secret === undefined) return hash('sha256', input, 'base64url');
  return createHmac('sha256', secret).update(input).digest('base64url');
}

const bytesOf = (part: string | Uint8Array): number => (typeof part === 'string' ? 2 * part.length : part.byteLength);

function headOf(part: string | Uint8Array): string {
  return typeof part === 'string' ? `${2 * part.length}s:` : `${part.byteLength}b:`;
}
