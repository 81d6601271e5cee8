import { Module, type DynamicModule, type Provider } from '@nestjs/common';
import { APP_INTERCEPTOR, ModulesContainer } from '@nestjs/core';
import { EngineHost } from './engine-host.js';
import { IdempotencyConfigError } from '../core/errors.js';
import { IdempotencyInterceptor } from './idempotency.interceptor.js';
import { IdempotencyService } from './idempotency.service.js';
import { readyForMessages } from './message-handlers.js';
import type { IdempotencyModuleAsyncOptions, IdempotencyModuleOptions, IdempotencyOptionsFactory } from './options.js';
import { resolveModule } from './resolve-options.js';
import { RouteTable } from './route-table.js';
import { IDEMPOTENCY_MICROSERVICES, IDEMPOTENCY_OPTIONS, IDEMPOTENCY_SETTINGS } from './tokens.js';

/**
 * Idempotency keys for the whole application. Import it once, in the root module; it registers its
 * interceptor globally and exports `IdempotencyService` to every module.
 *
 * @example
 * ```ts
 * IdempotencyModule.forRoot({
 *   store: typeormStore(),
 *   scope: (ctx) => ctx.switchToHttp().getRequest().user.tenantId,
 * })
 * ```
 */
@Module({})
export class IdempotencyModule {
  static forRoot(options: IdempotencyModuleOptions): DynamicModule {
    return moduleWith([{ provide: IDEMPOTENCY_OPTIONS, useValue: options }]);
  }

  /** `forRoot` with options that come from other providers. */
  static forRootAsync(options: IdempotencyModuleAsyncOptions): DynamicModule {
    return { ...moduleWith(optionProviders(options)), imports: options.imports ?? [] };
  }
}

function moduleWith(optionProviders: Provider[]): DynamicModule {
  return {
    module: IdempotencyModule,
    global: true,
    providers: [
      ...optionProviders,
      { provide: IDEMPOTENCY_SETTINGS, useFactory: resolveModule, inject: [IDEMPOTENCY_OPTIONS] },
      { provide: IDEMPOTENCY_MICROSERVICES, useFactory: readyForMessages, inject: [ModulesContainer] },
      RouteTable,
      EngineHost,
      IdempotencyService,
      { provide: APP_INTERCEPTOR, useClass: IdempotencyInterceptor },
    ],
    exports: [IdempotencyService],
  };
}

function optionProviders(options: IdempotencyModuleAsyncOptions): Provider[] {
  const { useFactory, useClass, useExisting, inject } = options;
  if (useFactory) return [{ provide: IDEMPOTENCY_OPTIONS, useFactory, inject: [...(inject ?? [])] as never[] }];
  const factory = useExisting ?? useClass;
  if (!factory) {
    throw new IdempotencyConfigError(
      'IdempotencyModule.forRootAsync: write one of useFactory, useClass and useExisting.',
    );
  }
  const create: Provider = {
    provide: IDEMPOTENCY_OPTIONS,
    useFactory: (provider: IdempotencyOptionsFactory) => provider.createIdempotencyOptions(),
    inject: [factory],
  };
  return useClass ? [create, { provide: useClass, useClass }] : [create];
}
