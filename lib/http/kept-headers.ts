import type { OutgoingHttpHeaders } from 'node:http';
import type { RecordedHeader } from '../core/record.js';

/**
 * The header fields that belong to the answer and are replayed with it. Everything else is about
 * this one exchange (Date, request ids, rate limits, CORS), about the connection, or about the
 * session (Set-Cookie), and is never kept. Content-Encoding is here because the kept bytes may be
 * coded (a Fastify hook compresses before the bytes reach the wire) and mean nothing without it.
 */
export const KEPT_HEADERS: ReadonlySet<string> = new Set([
  'content-type',
  'content-encoding',
  'content-language',
  'content-disposition',
  'location',
  'etag',
  'link',
]);

/** Fields that describe the body that is replaced, besides the kept ones. */
export const BODY_HEADERS: ReadonlySet<string> = new Set([
  ...KEPT_HEADERS,
  'content-length',
  'transfer-encoding',
  'trailer',
  'last-modified',
  'content-range',
  'accept-ranges',
]);

/** The kept ones of a response's headers. */
export function keptHeaders(headers: OutgoingHttpHeaders): RecordedHeader[] {
  const kept: RecordedHeader[] = [];
  for (const [field, value] of Object.entries(headers)) {
    const name = field.toLowerCase();
    if (value === undefined || !KEPT_HEADERS.has(name)) continue;
    for (const one of Array.isArray(value) ? value : [value]) kept.push([name, String(one)]);
  }
  return kept;
}
