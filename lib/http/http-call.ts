import type { ExecutionContext } from '@nestjs/common';
import { fingerprintOfPayload } from '../core/fingerprint.js';
import { IdempotencyKeyMissingError } from '../core/errors.js';
import { checkKey } from '../core/key.js';
import { checkScope } from '../core/scope.js';
import { httpFingerprint } from './http-fingerprint.js';
import type { HttpExchange } from './http-request.js';
import type { HttpRoute } from './http-route.js';
import { readHeaderKey } from './header-key.js';

/**
 * The key of the request, or undefined where it has none and need not have one.
 * @throws IdempotencyKeyMissingError or IdempotencyKeyInvalidError
 */
export async function readKey(
  route: HttpRoute,
  context: ExecutionContext,
  exchange: HttpExchange,
): Promise<string | undefined> {
  if (typeof route.key === 'function') {
    const key = await route.key(context);
    if (key !== undefined && key !== null) return checkKey(key);
    if (!route.required) return undefined;
    throw new IdempotencyKeyMissingError('This request must have an idempotency key.', { param: 'key' });
  }
  const key = readHeaderKey(exchange.request, route.header);
  if (key !== undefined || route.key === 'fingerprint' || !route.required) return key;
  throw new IdempotencyKeyMissingError(
    `This request must have an ${route.header} header: a value of your own making that is the same for every retry of one request.`,
    { param: route.header },
  );
}

/** Who owns the key. A request without an owner is refused rather than put into everybody's. */
export async function readScope(route: HttpRoute, context: ExecutionContext): Promise<string> {
  if (route.scope === 'global') return 'global';
  return checkScope(await route.scope(context), '; put a guard before routes that need one.');
}

export async function readFingerprint(
  route: HttpRoute,
  context: ExecutionContext,
  exchange: HttpExchange,
): Promise<string> {
  if (route.fingerprint === false) return '';
  if (typeof route.fingerprint === 'function')
    return fingerprintOfPayload(await route.fingerprint(context), route.secret);
  return httpFingerprint(exchange, route.fingerprint);
}

/**
 * Whether the body is read only by an interceptor inside ours (an upload): its claim waits until
 * the handler is about to start, when there is a body to take the fingerprint of.
 */
export function bodyComesLater(route: HttpRoute, exchange: HttpExchange): boolean {
  return route.fingerprint !== false && (exchange.mediaType.startsWith('multipart/') || exchange.hasUnreadBody);
}
