import type { MetadataScanner } from '@nestjs/core';
import { IdempotencyConfigError } from '../core/errors.js';
import { IDEMPOTENT } from './decorators.js';

/** The metadata keys that tell what a provider's method is for; texts of Nest's own packages. */
const KINDS: readonly (readonly [key: string, what: string])[] = [
  ['websockets:message_mapping', 'a handler of WebSocket messages'],
  ['graphql:resolver_type', 'a GraphQL resolver'],
  ['graphql:resolve_property', 'a GraphQL resolver'],
];

type Method = (...args: never[]) => unknown;

/**
 * Gateways, resolvers and services are providers: a decorator on one would do nothing, silently.
 * @throws IdempotencyConfigError that says what to write instead
 */
export function refuseProvider(
  scanner: MetadataScanner,
  provider: (abstract new (...args: never[]) => object) | undefined,
): void {
  if (typeof provider !== 'function' || !provider.prototype) return;
  const methods = scanner
    .getAllMethodNames(provider.prototype as object)
    .map((name) => [name, (provider.prototype as Record<string, unknown>)[name]] as const)
    .filter((entry): entry is readonly [string, Method] => typeof entry[1] === 'function');
  const onClass = Reflect.hasMetadata(IDEMPOTENT, provider);
  const decorated = methods.find(([, method]) => Reflect.hasMetadata(IDEMPOTENT, method));
  if (!onClass && !decorated) return;
  const [name, method] = decorated ?? methods.find(([, one]) => kindOf(one) !== undefined) ?? [];
  const where = name === undefined || (onClass && !decorated) ? provider.name : `${provider.name}.${name}`;
  const kind = (method && kindOf(method)) ?? 'no handler of HTTP requests or messages';
  throw new IdempotencyConfigError(
    `@Idempotent() on ${where}: this is ${kind}, and the decorator would do nothing. Call IdempotencyService.run() in the method instead, with a key that the caller sends.`,
  );
}

function kindOf(method: object): string | undefined {
  return KINDS.find(([key]) => Reflect.hasMetadata(key, method))?.[1];
}

/** A decorated method of a controller that Nest never calls by itself. */
export function noHandler(where: string): IdempotencyConfigError {
  return new IdempotencyConfigError(
    `${where}: this method handles neither HTTP requests nor messages, and the decorator would do nothing. Take it away, or call IdempotencyService.run() in the method.`,
  );
}
