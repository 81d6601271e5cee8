import type { ExecutionContext } from '@nestjs/common';
import { canonicalText } from '../core/canonical.js';
import { IdempotencyKeyMissingError } from '../core/errors.js';
import { fingerprintOf, fingerprintOfPayload } from '../core/fingerprint.js';
import { checkKey } from '../core/key.js';
import { checkScope } from '../core/scope.js';
import type { MessageRoute } from './message-route.js';

/**
 * The key of the message, or undefined where it has none and need not have one.
 * @throws IdempotencyKeyMissingError or IdempotencyKeyInvalidError
 */
export async function readKey(route: MessageRoute, context: ExecutionContext): Promise<string | undefined> {
  if (route.key === 'fingerprint') return undefined;
  const key = await route.key(context);
  if (key !== undefined && key !== null) return checkKey(key);
  if (!route.required) return undefined;
  throw new IdempotencyKeyMissingError('This message must have an idempotency key, and has none.', { param: 'key' });
}

export async function readScope(route: MessageRoute, context: ExecutionContext): Promise<string> {
  if (route.scope === 'global') return 'global';
  return checkScope(
    await route.scope(context),
    `. For messages the function reads context.switchToRpc(); a handler may have a scope of its own.`,
  );
}

/** The fingerprint of what the handler sees: the pattern that the message came under, and its data. */
export async function readFingerprint(route: MessageRoute, context: ExecutionContext): Promise<string> {
  const { fingerprint, secret } = route;
  if (fingerprint === false) return '';
  if (typeof fingerprint === 'function') return fingerprintOfPayload(await fingerprint(context), secret);
  const rpc = context.switchToRpc();
  return fingerprintOf(
    [
      ['pattern', patternOf(rpc.getContext()) ?? ''],
      ['data', canonicalText(rpc.getData(), fingerprint.omit)],
    ],
    secret,
  );
}

/** What each of Nest's transports calls the pattern of a message. */
const PATTERN_GETTERS = ['getPattern', 'getSubject', 'getChannel', 'getTopic'] as const;

/** The pattern that a message came under, or undefined where its transport does not tell. */
export function patternOf(rpcContext: unknown): string | undefined {
  for (const name of PATTERN_GETTERS) {
    const getter = (rpcContext as Record<string, unknown> | null | undefined)?.[name];
    if (typeof getter !== 'function') continue;
    const pattern: unknown = getter.call(rpcContext);
    if (typeof pattern === 'string') return inOneForm(pattern);
  }
  return undefined;
}

/** A pattern with members comes as its sender has written it, in any order of them. */
function inOneForm(pattern: string): string {
  if (!pattern.startsWith('{')) return pattern;
  try {
    return canonicalText(JSON.parse(pattern));
  } catch {
    return pattern;
  }
}
