import { parseDuration } from '../core/duration.js';
import { IdempotencyConfigError } from '../core/errors.js';

type Check = (value: unknown, option: string) => void;

const duration: Check = (value, option) => void parseDuration(value, option);
const boolean: Check = (value, option) => expect(typeof value === 'boolean', option, value, 'true or false');
const choice =
  (...choices: readonly string[]): Check =>
  (value, option) =>
    expect(
      typeof value === 'function' || choices.includes(value as string),
      option,
      value,
      `${choices.map((one) => `'${one}'`).join(', ')} or a function`,
    );
const fixed =
  (...choices: readonly string[]): Check =>
  (value, option) =>
    expect(choices.includes(value as string), option, value, choices.map((one) => `'${one}'`).join(' or '));
const count: Check = (value, option) =>
  expect(Number.isSafeInteger(value) && (value as number) > 0, option, value, 'a positive whole number');
const bytes: Check = (value, option) =>
  expect(Number.isSafeInteger(value) && (value as number) >= 0, option, value, 'a whole number of bytes');

const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/;
const header: Check = (value, option) =>
  expect(typeof value === 'string' && HEADER_NAME.test(value), option, value, 'the name of a header field');
const texts: Check = (value, option) =>
  expect(
    Array.isArray(value) && value.every((one) => typeof one === 'string' && one !== ''),
    option,
    value,
    'a list of names',
  );

const fingerprint: Check = (value, option) => {
  if (value === false || typeof value === 'function') return;
  expect(isRecord(value), option, value, '{ headers, omit }, a function or false');
  checkNames(value as object, option, { headers: texts, omit: texts });
};

const group =
  (checks: Readonly<Record<string, Check>>, orFalse = true): Check =>
  (value, option) => {
    if (value === false && orFalse) return;
    expect(isRecord(value), option, value, `an object of ${Object.keys(checks).join(', ')}`);
    checkNames(value as object, option, checks);
  };

const ROUTE_CHECKS: Readonly<Record<string, Check>> = {
  scope: (value, option) =>
    expect(
      value === 'global' || typeof value === 'function',
      option,
      value,
      `'global' or a function of the request's context`,
    ),
  key: choice('header', 'fingerprint'),
  header,
  required: boolean,
  fingerprint,
  retention: duration,
  lease: duration,
  maxDuration: duration,
  inFlight: fixed('reject', 'join'),
  joinTimeout: duration,
  afterCrash: choice('block', 'rerun'),
  transaction: boolean,
  onDisconnect: fixed('continue', 'cancel'),
  recordWhen: (value, option) => expect(typeof value === 'function', option, value, 'a function of the outcome'),
  maxRecordBytes: bytes,
  stream: group({ flushAfter: duration, flushItems: count, flushBytes: count, maxItems: count }, false),
};

const MODULE_CHECKS: Readonly<Record<string, Check>> = {
  ...ROUTE_CHECKS,
  store: (value, option) =>
    expect(
      isStore(value),
      option,
      value,
      'typeormStore(), redisStore({ client }), memoryStore() or a store of your own',
    ),
  secret: (value, option) =>
    expect(
      (typeof value === 'string' || value instanceof Uint8Array) && value.length > 0,
      option,
      '(a secret)',
      'a text or bytes, not empty',
    ),
  purge: group({ every: duration, batch: count }),
  replayCache: group({ maxBytes: count, maxRecords: count, maxAge: duration }),
  lazy: boolean,
  shutdownTimeout: duration,
  maxDetachedStreams: count,
  documentationUrl: (value, option) => expect(isAbsoluteUrl(value), option, value, 'an absolute URL'),
};

/** @throws IdempotencyConfigError that names the option, what it holds, and what to write */
export function checkRouteOptions(options: object, where: string): void {
  expect(isRecord(options), where, options, 'an object of options, or false');
  checkNames(options, where, ROUTE_CHECKS);
}

/** @throws IdempotencyConfigError as `checkRouteOptions`; above all where `scope` or `store` is missing */
export function checkModuleOptions(options: object): void {
  const where = 'IdempotencyModule';
  if (!isRecord(options)) {
    throw new IdempotencyConfigError(
      `${where}: options are missing. Write IdempotencyModule.forRoot({ store, scope }).`,
    );
  }
  const { scope, store } = options as { scope?: unknown; store?: unknown };
  if (scope === undefined) {
    throw new IdempotencyConfigError(
      `${where}.scope is missing: it says who owns a key, so that no tenant is answered with another one's record. ` +
        `Write scope: (ctx) => ctx.switchToHttp().getRequest().user.tenantId (whatever your guard puts there), ` +
        `or scope: 'global' if all callers may share one namespace of keys.`,
    );
  }
  if (store === undefined) {
    throw new IdempotencyConfigError(
      `${where}.store is missing. Write store: typeormStore(), redisStore({ client }) or memoryStore().`,
    );
  }
  checkNames(options, where, MODULE_CHECKS);
}

function checkNames(options: object, where: string, checks: Readonly<Record<string, Check>>): void {
  for (const [name, value] of Object.entries(options)) {
    const check = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (!check) {
      throw new IdempotencyConfigError(
        `${where}.${name} is no option. There are: ${Object.keys(checks).sort().join(', ')}.`,
      );
    }
    if (value !== undefined) check(value, `${where}.${name}`);
  }
}

function expect(holds: boolean, option: string, value: unknown, wanted: string): void {
  if (holds) return;
  const shown =
    typeof value === 'string'
      ? `'${value.slice(0, 60)}'`
      : (typeof value === 'object' && value !== null) || typeof value === 'function'
        ? `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`
        : String(value);
  throw new IdempotencyConfigError(`${option}: ${shown} is not possible. Write ${wanted}.`);
}

const isRecord = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);

function isStore(value: unknown): boolean {
  const store = value as { claim?: unknown; createStore?: unknown } | null;
  return (
    typeof store === 'object' &&
    store !== null &&
    (typeof store.claim === 'function' || typeof store.createStore === 'function')
  );
}

function isAbsoluteUrl(value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && !/[<>\s]/.test(value);
}
