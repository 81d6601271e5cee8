import { Controller, Get, Injectable, Post, type Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { IdempotencyConfigError } from '../../../lib/core/errors.js';
import { Idempotent } from '../../../lib/nest/decorators.js';
import { IdempotencyModule } from '../../../lib/nest/idempotency.module.js';
import type { IdempotencyModuleOptions, IdempotencyRouteOptions } from '../../../lib/nest/options.js';
import { resolveModule, resolvePolicy, resolveRoute } from '../../../lib/nest/resolve-options.js';
import { memoryStore } from '../../../lib/stores/memory/memory-store.js';

const BASE: IdempotencyModuleOptions = { store: memoryStore(), scope: 'global' };
const WHERE = '@Idempotent() on ChargesController.create';

function boot(options: object): string {
  try {
    resolveModule(options as IdempotencyModuleOptions);
  } catch (error) {
    if (error instanceof IdempotencyConfigError) return error.message;
    throw error;
  }
  return 'accepted';
}

function route(options: object, base: Partial<IdempotencyModuleOptions> = {}): ReturnType<typeof resolveRoute> {
  const settings = resolveModule({ ...BASE, ...base });
  return resolveRoute(undefined, WHERE, settings, [options as IdempotencyRouteOptions], {
    version: undefined,
    isSse: false,
  });
}

function refusal(options: object, base: Partial<IdempotencyModuleOptions> = {}): string {
  try {
    route(options, base);
  } catch (error) {
    if (error instanceof IdempotencyConfigError) return error.message;
    throw error;
  }
  return 'accepted';
}

/** Values that an option does not take, and what the message tells to write. */
const WRONG: [name: string, value: unknown, wanted: string][] = [
  ['scope', 'tenant', "'global' or a function"],
  ['scope', null, "'global' or a function"],
  ['scope', {}, "'global' or a function"],
  ['key', 'body', "'header', 'fingerprint' or a function"],
  ['key', null, "'header', 'fingerprint' or a function"],
  ['header', '', 'the name of a header field'],
  ['header', 'Idempotency Key', 'the name of a header field'],
  ['header', 'Key:', 'the name of a header field'],
  ['header', 'K\u00e9y', 'the name of a header field'],
  ['header', 'X\r\nY', 'the name of a header field'],
  ['header', 7, 'the name of a header field'],
  ['required', 'yes', 'true or false'],
  ['required', 0, 'true or false'],
  ['fingerprint', true, '{ headers, omit }, a function or false'],
  ['fingerprint', 'body', '{ headers, omit }, a function or false'],
  ['fingerprint', null, '{ headers, omit }, a function or false'],
  ['fingerprint', ['a'], '{ headers, omit }, a function or false'],
  ['inFlight', 'wait', "'reject' or 'join'"],
  ['inFlight', true, "'reject' or 'join'"],
  ['afterCrash', 'retry', "'block', 'rerun' or a function"],
  ['onDisconnect', 'abort', "'continue' or 'cancel'"],
  ['recordWhen', 'record', 'a function of the outcome'],
  ['maxRecordBytes', -1, 'a whole number of bytes'],
  ['maxRecordBytes', 1.5, 'a whole number of bytes'],
  ['maxRecordBytes', Infinity, 'a whole number of bytes'],
  ['maxRecordBytes', '1MiB', 'a whole number of bytes'],
];
const DURATIONS = ['retention', 'lease', 'maxDuration', 'joinTimeout'] as const;
const NO_DURATIONS = [0, -1, '-5s', NaN, Infinity, 'soon', '', '5', '1 h', null, true, {}, 4_000 * 86_400_000];

describe('module options', () => {
  it('need a scope, and say what to write', () => {
    const message = boot({ store: memoryStore() });
    expect(message).toMatch(/^IdempotencyModule\.scope is missing/);
    expect(message).toContain('scope: (ctx) => ctx.switchToHttp().getRequest().user.tenantId');
    expect(message).toContain("scope: 'global'");
    expect(boot({ store: memoryStore(), scope: undefined })).toBe(message);
    expect(boot({})).toContain('scope is missing'); // above all else
  });

  it('need a store, and say which there are', () => {
    const message = boot({ scope: 'global' });
    expect(message).toContain('IdempotencyModule.store is missing');
    for (const store of ['typeormStore()', 'redisStore({ client })', 'memoryStore()']) expect(message).toContain(store);
  });

  it.each([['postgres'], [null], [{}], [memoryStore], [42], [{ claim: true }]])('refuse %p as a store', (store) => {
    expect(boot({ ...BASE, store })).toMatch(/^IdempotencyModule\.store: .* Write typeormStore\(\)/);
  });

  it.each([undefined, null, 'memory', 7, []])('are missing where they are %p', (options) => {
    expect(boot(options as never)).toContain('Write IdempotencyModule.forRoot({ store, scope })');
  });

  it('take a store, or what makes one', () => {
    expect(boot(BASE)).toBe('accepted');
    expect(boot({ ...BASE, store: { createStore: () => memoryStore() } })).toBe('accepted');
  });

  it.each(['retentoin', 'ttl', 'Scope', 'lock', '__proto__x', 'constructor', 'toString', 'hasOwnProperty'])(
    'refuse the unknown name %s, and list the ones that there are',
    (name) => {
      const message = boot({ ...BASE, [name]: 1 });
      expect(message).toMatch(new RegExp(`^IdempotencyModule\\.${name} is no option\\. There are: `));
      for (const known of ['afterCrash', 'lease', 'scope', 'store']) expect(message).toContain(known);
    },
  );

  it('refuse unknown names in groups', () => {
    expect(boot({ ...BASE, purge: { evry: '5s' } })).toContain('IdempotencyModule.purge.evry is no option');
    expect(boot({ ...BASE, replayCache: { size: 5 } })).toContain('IdempotencyModule.replayCache.size is no option');
    expect(boot({ ...BASE, fingerprint: { header: ['x'] } })).toContain(
      'IdempotencyModule.fingerprint.header is no option',
    );
  });

  it.each(WRONG)('refuse %s: %p, and say what to write', (name, value, wanted) => {
    const message = boot({ ...BASE, [name]: value });
    expect(message.startsWith(`IdempotencyModule.${name}: `)).toBe(true);
    expect(message).toContain(wanted);
  });

  it.each(DURATIONS)('refuse %s that is no duration', (name) => {
    for (const value of NO_DURATIONS)
      expect(boot({ ...BASE, [name]: value })).toMatch(new RegExp(`^IdempotencyModule\\.${name}: `));
  });

  it.each([
    ['purge', { every: '-1s' }, 'IdempotencyModule.purge.every'],
    ['purge', { batch: 0 }, 'IdempotencyModule.purge.batch'],
    ['purge', { batch: 1.5 }, 'IdempotencyModule.purge.batch'],
    ['purge', true, 'IdempotencyModule.purge'],
    ['purge', [], 'IdempotencyModule.purge'],
    ['replayCache', { maxBytes: -1 }, 'IdempotencyModule.replayCache.maxBytes'],
    ['replayCache', { maxRecords: Infinity }, 'IdempotencyModule.replayCache.maxRecords'],
    ['replayCache', { maxAge: 'soon' }, 'IdempotencyModule.replayCache.maxAge'],
    ['replayCache', 'off', 'IdempotencyModule.replayCache'],
    ['lazy', 1, 'IdempotencyModule.lazy'],
    ['shutdownTimeout', 0, 'IdempotencyModule.shutdownTimeout'],
    ['documentationUrl', '/docs', 'IdempotencyModule.documentationUrl'],
    ['documentationUrl', 'https://a.example/>; rel="x', 'IdempotencyModule.documentationUrl'],
    ['fingerprint', { headers: 'x-version' }, 'IdempotencyModule.fingerprint.headers'],
    ['fingerprint', { omit: [''] }, 'IdempotencyModule.fingerprint.omit'],
  ])('refuse %s: %j', (name, value, where) => {
    expect(boot({ ...BASE, [name]: value }).startsWith(`${where}: `)).toBe(true);
  });

  it('never repeat a secret', () => {
    for (const secret of ['', new Uint8Array(0), 4711, { key: 'hunter2' }]) {
      const message = boot({ ...BASE, secret });
      expect(message).toMatch(/^IdempotencyModule\.secret: '\(a secret\)'/);
      expect(message).not.toMatch(/hunter2|4711/);
    }
    expect(boot({ ...BASE, secret: 's' })).toBe('accepted');
  });

  it('refuse times that do not fit together', () => {
    expect(boot({ ...BASE, lease: '1h', maxDuration: '10m' })).toMatch(
      /^IdempotencyModule\.maxDuration \(600000 ms\) is shorter than lease \(3600000 ms\)\. Write /,
    );
    expect(boot({ ...BASE, maxDuration: '10s' })).toContain('is shorter than lease (30000 ms)');
    expect(boot({ ...BASE, lease: '99ms' })).toMatch(
      /^IdempotencyModule\.lease: 99 ms is too short .* at least 100 ms/,
    );
    expect(boot({ ...BASE, lease: '100ms', maxDuration: '100ms' })).toBe('accepted');
  });

  it('take an undefined option for one that is not there', () => {
    const all = [
      'retention',
      'lease',
      'purge',
      'replayCache',
      'secret',
      'key',
      'fingerprint',
      'documentationUrl',
      'lazy',
    ];
    expect(boot({ ...BASE, ...Object.fromEntries(all.map((name) => [name, undefined])) })).toBe('accepted');
  });

  it('have the defaults that are promised', () => {
    expect(resolvePolicy({}, WHERE)).toMatchObject({
      retentionMs: 24 * 3_600_000,
      leaseMs: 30_000,
      maxDurationMs: 15 * 60_000,
      joinTimeoutMs: 30_000,
      inFlight: 'reject',
      afterCrash: 'block',
      maxRecordBytes: 1024 * 1024,
    });
    expect(route({})).toMatchObject({
      header: 'Idempotency-Key',
      required: true,
      key: 'header',
      scope: 'global',
      fingerprint: { headers: [], omit: [] },
      onDisconnect: 'continue',
    });
    expect(resolveModule({ ...BASE, purge: false, replayCache: false })).toMatchObject({
      purge: false,
      replayCache: false,
    });
  });
});

describe('route options', () => {
  it.each(WRONG)('refuse %s: %p, and name the handler', (name, value, wanted) => {
    const message = refusal({ [name]: value });
    expect(message.startsWith(`${WHERE}.${name}: `)).toBe(true);
    expect(message).toContain(wanted);
  });

  it.each(DURATIONS)('refuse %s that is no duration, and name the handler', (name) => {
    for (const value of NO_DURATIONS) expect(refusal({ [name]: value })).toMatch(`${WHERE}.${name}: `);
  });

  it.each(['store', 'purge', 'secret', 'replayCache', 'ttl'])('refuse %s, which is none of theirs', (name) => {
    expect(refusal({ [name]: {} })).toMatch(`${WHERE}.${name} is no option. There are: `);
  });

  it('refuse a lease that is longer than the maxDuration of the module, and name the handler', () => {
    const message = refusal({ lease: '20m' });
    expect(message).toContain(`${WHERE}.maxDuration (900000 ms) is shorter than lease (1200000 ms)`);
    expect(refusal({ lease: '20m' }, { maxDuration: '1h' })).toBe('accepted');
  });

  it('need a retention on the route itself in keyless mode', () => {
    const message = refusal({ key: 'fingerprint' }, { retention: '10m' });
    expect(message).toContain(`${WHERE}: key 'fingerprint' needs a retention on the route itself`);
    expect(message).toContain("@Idempotent({ key: 'fingerprint', retention: '10m' })");
    expect(refusal({ key: 'fingerprint', retention: '10m' })).toBe('accepted');
    expect(refusal({ retention: '10m' }, { key: 'fingerprint' })).toBe('accepted');
    expect(refusal({}, { key: 'fingerprint', retention: '10m' })).toContain('needs a retention on the route itself');
  });

  it('need a fingerprint in keyless mode', () => {
    const keyless = { key: 'fingerprint', retention: '10m', fingerprint: false };
    expect(refusal(keyless)).toContain(`${WHERE}: key 'fingerprint' needs a fingerprint`);
  });

  it('are those of the handler over those of the controller over those of the module', () => {
    const settings = resolveModule({ ...BASE, retention: '1h', lease: '10s', header: 'X-Module', inFlight: 'join' });
    const layers: IdempotencyRouteOptions[] = [
      { retention: '2h', header: 'X-Controller', required: false },
      { retention: '3h', header: undefined },
    ];
    const resolved = resolveRoute(undefined, WHERE, settings, layers, { version: undefined, isSse: false });
    expect(resolved).toMatchObject({
      header: 'X-Controller',
      required: false,
      policy: { retentionMs: 3 * 3_600_000, leaseMs: 10_000, inFlight: 'join' },
    });
  });
});

describe('an application', () => {
  async function start(controllers: Type[], providers: Type[] = []): Promise<string> {
    try {
      const module = await Test.createTestingModule({
        imports: [IdempotencyModule.forRoot(BASE)],
        controllers,
        providers,
      }).compile();
      await module.close();
    } catch (error) {
      if (error instanceof IdempotencyConfigError) return error.message;
      throw error;
    }
    return 'started';
  }

  function controllerWith(options: unknown, onClass: unknown = false): Type {
    @Controller()
    @Idempotent(onClass as false)
    class ChargesController {
      @Post('charges') @Idempotent(options as false) create(): string {
        return 'x';
      }
      @Get('charges') list(): string {
        return 'x';
      }
    }
    return ChargesController;
  }

  it.each([
    [{ retention: 'soon' }, '@Idempotent() on ChargesController.create.retention: '],
    [{ retentoin: '1h' }, '@Idempotent() on ChargesController.create.retentoin is no option'],
    [{ key: 'fingerprint' }, "@Idempotent() on ChargesController.create: key 'fingerprint' needs a retention"],
    ['24h', '@Idempotent() on ChargesController.create: '],
    [true, '@Idempotent() on ChargesController.create: '],
    [null, '@Idempotent() on ChargesController.create: '],
    [[], '@Idempotent() on ChargesController.create: '],
  ])('does not boot with @Idempotent(%j), and says where it is', async (options, message) => {
    expect(await start([controllerWith(options)])).toContain(message);
  });

  it('does not boot with wrong options on a controller, and names one of its handlers', async () => {
    expect(await start([controllerWith({}, { lease: 0 })])).toContain(
      '@Idempotent() on ChargesController.create.lease: 0',
    );
    expect(await start([controllerWith({}, null)])).toContain('@Idempotent() on ChargesController.create: ');
  });

  it('boots with right ones, and with a handler that is switched off', async () => {
    expect(await start([controllerWith({ retention: '1h' }, { lease: '5s' })])).toBe('started');
    expect(await start([controllerWith(false, { lease: '5s' })])).toBe('started');
  });

  it('does not boot with a decorator where it would do nothing', async () => {
    @Injectable()
    class ChargesService {
      @Idempotent() charge(): void {}
    }
    const message = await start([], [ChargesService]);
    expect(message).toContain('@Idempotent() on ChargesService.charge');
    expect(message).toContain('IdempotencyService.run()');
  });

  it('does not boot with forRootAsync that says nothing', () => {
    expect(() => IdempotencyModule.forRootAsync({})).toThrow(
      /Write one of useFactory, useClass and useExisting|write one of useFactory/,
    );
  });

  it('does not boot with wrong options from a factory', async () => {
    const imports = [
      IdempotencyModule.forRootAsync({
        useFactory: () => ({ store: memoryStore() }) as unknown as IdempotencyModuleOptions,
      }),
    ];
    await expect(Test.createTestingModule({ imports }).compile()).rejects.toThrow('IdempotencyModule.scope is missing');
  });
});
