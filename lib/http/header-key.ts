import type { IncomingMessage } from 'node:http';
import { IdempotencyKeyInvalidError } from '../core/errors.js';
import { parseKeyField } from '../core/key.js';

/**
 * The key in this header, or undefined where the request has none.
 * @throws IdempotencyKeyInvalidError for a malformed key, or more than one field line
 */
export function readHeaderKey(request: IncomingMessage, header: string): string | undefined {
  const name = header.toLowerCase();
  const value = request.headers[name];
  if (value === undefined) return undefined;
  // Node joins field lines of one name with a comma, also `"a` and `b"`, which would pass for one String.
  if (Array.isArray(value) || countLines(request.rawHeaders, name) > 1) {
    throw new IdempotencyKeyInvalidError(`${header} was sent more than once; send one key.`, { param: header });
  }
  return parseKeyField(value, header);
}

function countLines(rawHeaders: readonly string[] | undefined, name: string): number {
  let lines = 0;
  for (let i = 0; rawHeaders !== undefined && i < rawHeaders.length; i += 2) {
    const field = rawHeaders[i]!;
    if (field.length === name.length && field.toLowerCase() === name) lines += 1;
  }
  return lines;
}
