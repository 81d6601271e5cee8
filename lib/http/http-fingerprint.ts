import { canonicalText } from '../core/canonical.js';
import { readExactJson } from '../core/exact-json.js';
import { fingerprintOf } from '../core/fingerprint.js';
import type { HttpExchange } from './http-request.js';
import { multipartParts } from './multipart.js';
import { UnreadableBodyError } from './unreadable-body.js';

/** What counts as the same request besides method, path, query, content type and body. */
export interface HttpFingerprintOptions {
  /** Request headers that count, e.g. the API version. */
  readonly headers: readonly string[];
  /** Body members that do not count, as dot paths. */
  readonly omit: readonly string[];
  /** Key of the HMAC; without it the fingerprint is a plain SHA-256. */
  readonly secret?: string | Uint8Array;
  /** API version of the handler, where it is not part of the path. */
  readonly version?: string;
}

/**
 * The fingerprint of what the handler sees: method, path, query, media type, chosen headers and the
 * parsed body. The bytes themselves do not count: a client may write the same JSON in another order,
 * and a multipart client makes up a new boundary for each attempt.
 */
export async function httpFingerprint(exchange: HttpExchange, options: HttpFingerprintOptions): Promise<string> {
  const { path, query } = splitUrl(exchange.url);
  const { mediaType } = exchange;
  const headers = options.headers.map((name) => [
    name.toLowerCase(),
    exchange.request.headers[name.toLowerCase()] ?? null,
  ]);
  const body = mediaType.startsWith('multipart/')
    ? await multipartParts(exchange, options.omit)
    : [bodyText(exchange, options.omit)];
  return fingerprintOf(
    [
      ['method', exchange.method],
      ['path', path],
      ['query', canonicalText(query)],
      ['type', mediaType],
      ['version', options.version ?? ''],
      ['headers', canonicalText(headers)],
      ...body.map((part) => ['body', part] as const),
    ],
    options.secret,
  );
}

function bodyText(exchange: HttpExchange, omit: readonly string[]): string {
  const { body, rawBody, mediaType } = exchange;
  if (exchange.hasUnreadBody)
    throw new UnreadableBodyError(`Nobody has read the request's ${mediaType || 'untyped'} body.`);
  if (body === undefined || body === null) return body === null && rawBody?.length ? 'null' : '';
  if (rawBody !== undefined && typeof body === 'object' && isJson(mediaType)) {
    // The parser has made some numbers equal that the client wrote apart.
    const exact = readExactJson(rawBody.toString('utf8').replace(/^\ufeff/, ''));
    if (exact) return canonicalText(exact.value, omit);
  }
  return canonicalText(body, omit);
}

const isJson = (mediaType: string): boolean => mediaType === 'application/json' || mediaType.endsWith('+json');

/** Query members in any order of names are one query; values of one name keep theirs. */
function splitUrl(url: string): { path: string; query: readonly (readonly [string, string])[] } {
  const at = url.indexOf('?');
  const path = at < 0 ? url : url.slice(0, at);
  const query = at < 0 ? [] : readQuery(url.slice(at + 1));
  query.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  // `/a%62` and `/ab` are one path to the router; an escaped slash is no slash.
  return { path: canonicalText(path.split('/').map(decode)), query };
}

function readQuery(text: string): (readonly [string, string])[] {
  return text
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const at = pair.indexOf('=');
      const [name, value] = at < 0 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)];
      return [decode(name.replaceAll('+', ' ')), decode(value.replaceAll('+', ' '))] as const;
    });
}

/**
 * What is no UTF-8 (`%FF`) keeps its escapes: one query parser shows them to the handler, another one a
 * replacement. The half of a surrogate pair before them is something that no text decodes to.
 */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return `\ud800${text}`;
  }
}
