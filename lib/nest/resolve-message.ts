import { IdempotencyConfigError } from '../core/errors.js';
import { recordBelow500 } from '../core/record-when.js';
import type { MessageRoute } from '../messages/message-route.js';
import type { IdempotencyRouteOptions } from './options.js';
import { mergeOptions, resolvePolicy, checkKeyless, type ModuleSettings } from './resolve-options.js';

/** Options that speak of an HTTP request or its response. */
const HTTP_ONLY = ['header', 'onDisconnect', 'stream'] as const;

/** A message handler's options: those of the handler over those of its controller over the module's. */
export function resolveMessageRoute(
  where: string,
  settings: ModuleSettings,
  layers: readonly IdempotencyRouteOptions[],
  /** The layers that are about messages only, so that an option for HTTP in them can be nothing but a mistake. */
  own: readonly IdempotencyRouteOptions[],
  route: Pick<MessageRoute, 'handler' | 'operation' | 'isEvent' | 'handlersOf'>,
): MessageRoute {
  const options = mergeOptions(settings, layers, where);
  for (const layer of own) refuseHttpOptions(layer, where);
  const { key } = options;
  if (key === undefined || key === 'header') {
    throw new IdempotencyConfigError(
      `${where}: a message has no Idempotency-Key header, so say where its key is. Write @Idempotent({ key: (ctx) => ctx.switchToRpc().getData().id }), cloudEventKey, or whatever names the message; or @Idempotent(false) if it may run more than once.`,
    );
  }
  if (key === 'fingerprint') checkKeyless(where, options, layers);
  const fingerprint = options.fingerprint ?? {};
  return {
    ...route,
    required: options.required ?? true,
    key,
    scope: options.scope!,
    fingerprint: typeof fingerprint === 'object' ? { omit: fingerprint.omit ?? [] } : fingerprint,
    secret: settings.options.secret,
    policy: resolvePolicy(options, where),
    recordWhen: options.recordWhen ?? recordBelow500,
  };
}

function refuseHttpOptions(layer: IdempotencyRouteOptions, where: string): void {
  const name = HTTP_ONLY.find((one) => layer[one] !== undefined);
  if (name !== undefined) {
    throw new IdempotencyConfigError(`${where}: '${name}' is for HTTP and means nothing for a message. Take it away.`);
  }
  const { fingerprint } = layer;
  if (typeof fingerprint === 'object' && fingerprint.headers !== undefined) {
    throw new IdempotencyConfigError(
      `${where}: 'fingerprint.headers' is for HTTP and means nothing for a message. Write a function: fingerprint: (ctx) => [ctx.switchToRpc().getData(), …].`,
    );
  }
}
