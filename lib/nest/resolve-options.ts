import { parseDuration, type Duration } from '../core/duration.js';
import { IdempotencyConfigError } from '../core/errors.js';
import type { RunPolicy } from '../core/policy.js';
import type { ReplayCacheLimits } from '../core/replay-cache.js';
import type { HttpRoute } from '../http/http-route.js';
import { DEFAULT_DOCUMENTATION_URL } from '../http/problem.js';
import { recordBelow500 } from '../core/record-when.js';
import { checkModuleOptions, checkRouteOptions } from './check-options.js';
import type { IdempotencyModuleOptions, IdempotencyRouteOptions } from './options.js';

const MIB = 1024 * 1024;

/** Three renewals must fit into a lease, and each is a round trip to the store. */
const SHORTEST_LEASE_MS = 100;

export const DEFAULTS = {
  header: 'Idempotency-Key',
  retention: '24h',
  lease: '30s',
  maxDuration: '15m',
  joinTimeout: '30s',
  maxRecordBytes: MIB,
} as const;

/** The module's own settings, read and checked. */
export interface ModuleSettings {
  readonly options: IdempotencyModuleOptions;
  readonly purge: { readonly everyMs: number; readonly batch: number } | false;
  readonly replayCache: ReplayCacheLimits | false;
  readonly lazy: boolean;
  readonly shutdownTimeoutMs: number;
  readonly maxDetachedStreams: number;
}

export function resolveModule(options: IdempotencyModuleOptions): ModuleSettings {
  checkModuleOptions(options);
  resolvePolicy(options, 'IdempotencyModule'); // what does not fit together is found at boot, whatever routes there are
  const { purge, replayCache } = options;
  return {
    options,
    purge:
      purge === false
        ? false
        : {
            everyMs: parseDuration(purge?.every ?? '60s', 'IdempotencyModule.purge.every'),
            batch: purge?.batch ?? 500,
          },
    replayCache:
      replayCache === false
        ? false
        : {
            maxBytes: replayCache?.maxBytes ?? 16 * MIB,
            maxRecords: replayCache?.maxRecords ?? 10_000,
            maxAgeMs: parseDuration(replayCache?.maxAge ?? '2s', 'IdempotencyModule.replayCache.maxAge'),
          },
    lazy: options.lazy ?? false,
    shutdownTimeoutMs: parseDuration(options.shutdownTimeout ?? '30s', 'IdempotencyModule.shutdownTimeout'),
    maxDetachedStreams: options.maxDetachedStreams ?? 200,
  };
}

/** The times and rules of a run, from options that stand nearest first. */
export function resolvePolicy(options: IdempotencyRouteOptions, where: string): RunPolicy {
  const ms = (name: 'retention' | 'lease' | 'maxDuration' | 'joinTimeout'): number =>
    parseDuration(options[name] ?? (DEFAULTS[name] as Duration), `${where}.${name}`);
  const policy: RunPolicy = {
    leaseMs: ms('lease'),
    maxDurationMs: ms('maxDuration'),
    retentionMs: ms('retention'),
    inFlight: options.inFlight ?? 'reject',
    followStreams: options.inFlight !== 'reject',
    joinTimeoutMs: ms('joinTimeout'),
    afterCrash: options.afterCrash ?? 'block',
    maxRecordBytes: options.maxRecordBytes ?? DEFAULTS.maxRecordBytes,
    transaction: options.transaction ?? false,
    stream: {
      flushAfterMs: parseDuration(options.stream?.flushAfter ?? '40ms', `${where}.stream.flushAfter`),
      flushItems: options.stream?.flushItems ?? 64,
      flushBytes: options.stream?.flushBytes ?? 16 * 1024,
      maxBytes: options.maxRecordBytes ?? 10 * MIB,
      maxItems: options.stream?.maxItems ?? 50_000,
    },
  };
  if (policy.leaseMs < SHORTEST_LEASE_MS) {
    throw new IdempotencyConfigError(
      `${where}.lease: ${policy.leaseMs} ms is too short to be renewed in time. Write at least ${SHORTEST_LEASE_MS} ms.`,
    );
  }
  if (policy.maxDurationMs < policy.leaseMs) {
    throw new IdempotencyConfigError(
      `${where}.maxDuration (${policy.maxDurationMs} ms) is shorter than lease (${policy.leaseMs} ms). Write a shorter lease, or a longer maxDuration.`,
    );
  }
  return policy;
}

/**
 * The options that hold on a handler, those that stand nearest first.
 * @throws IdempotencyConfigError for one that is no option, or has no possible value
 */
export function mergeOptions(
  settings: ModuleSettings,
  layers: readonly IdempotencyRouteOptions[],
  where: string,
): IdempotencyRouteOptions {
  for (const layer of layers) checkRouteOptions(layer, where);
  const options: IdempotencyRouteOptions = {};
  for (const layer of [settings.options as IdempotencyRouteOptions, ...layers]) {
    for (const [name, value] of Object.entries(layer)) {
      if (value !== undefined) (options as Record<string, unknown>)[name] = value;
    }
  }
  return options;
}

/** One route's options: those of the handler over those of its controller over the module's. */
export function resolveRoute(
  handler: unknown,
  where: string,
  settings: ModuleSettings,
  layers: readonly IdempotencyRouteOptions[],
  { version, isSse }: { readonly version: unknown; readonly isSse: boolean },
): HttpRoute {
  const options = mergeOptions(settings, layers, where);
  const { secret } = settings.options;
  if (isSse && options.transaction) {
    throw new IdempotencyConfigError(
      `${where}: server-sent events are sent while they come, and an answer with transaction: true only after the commit. Write transaction: false on the handler, and use IdempotencyService.run({ transaction: true }) for the part that writes.`,
    );
  }
  // A duplicate of a stream that has not begun waits for its beginning, and follows then.
  if (isSse) options.inFlight ??= 'join';
  if (options.key === 'fingerprint') checkKeyless(where, options, layers);
  const fingerprint = options.fingerprint ?? {};
  return {
    handler,
    isSse,
    header: options.header ?? DEFAULTS.header,
    required: options.required ?? true,
    key: options.key ?? 'header',
    scope: options.scope!,
    fingerprint:
      typeof fingerprint === 'object'
        ? {
            headers: fingerprint.headers ?? [],
            omit: fingerprint.omit ?? [],
            ...(secret === undefined ? {} : { secret }),
            ...(version === undefined ? {} : { version: JSON.stringify(version) ?? String(version) }),
          }
        : fingerprint,
    secret,
    policy: resolvePolicy(options, where),
    recordWhen: options.recordWhen ?? recordBelow500,
    onDisconnect: options.onDisconnect ?? 'continue',
    documentationUrl: settings.options.documentationUrl ?? DEFAULT_DOCUMENTATION_URL,
  };
}

/** In keyless mode two equal requests are one, so the route itself has to say for how long. */
export function checkKeyless(
  where: string,
  options: IdempotencyRouteOptions,
  layers: readonly IdempotencyRouteOptions[],
): void {
  if (options.fingerprint === false) {
    throw new IdempotencyConfigError(`${where}: key 'fingerprint' needs a fingerprint; take away fingerprint: false.`);
  }
  if (!layers.some((layer) => layer.retention !== undefined)) {
    throw new IdempotencyConfigError(
      `${where}: key 'fingerprint' needs a retention on the route itself: two equal requests within it are taken for one. Write @Idempotent({ key: 'fingerprint', retention: '10m' }), say.`,
    );
  }
}
