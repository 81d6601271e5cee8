import type { INestApplication, ModuleMetadata, Type } from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { IdempotencyModule, memoryStore, type IdempotencyModuleOptions } from 'nestjs-idempotency';

export const ADAPTERS = ['express', 'fastify'] as const;
export type AdapterName = (typeof ADAPTERS)[number];

export interface RunningApp {
  app: INestApplication;
  url: string;
  close(): Promise<void>;
}

export interface AppOptions {
  adapter: AdapterName;
  controllers: Type[];
  providers?: ModuleMetadata['providers'];
  imports?: ModuleMetadata['imports'];
  /** Merged over `{ store: memoryStore(), scope: 'global' }`. */
  idempotency?: Partial<IdempotencyModuleOptions>;
  /** Before or after the module under test, as applications do both. */
  importsFirst?: boolean;
  rawBody?: boolean;
  setup?: (app: INestApplication) => void | Promise<void>;
}

/** A Nest application on a free port of this machine. */
export async function startApp(options: AppOptions): Promise<RunningApp> {
  const idempotency = IdempotencyModule.forRoot({ store: memoryStore(), scope: 'global', ...options.idempotency });
  const imports = options.imports ?? [];
  const module = await Test.createTestingModule({
    imports: options.importsFirst ? [...imports, idempotency] : [idempotency, ...imports],
    controllers: options.controllers,
    providers: options.providers ?? [],
  }).compile();
  const adapter = options.adapter === 'express' ? new ExpressAdapter() : new FastifyAdapter();
  const app = module.createNestApplication(adapter as never, { rawBody: options.rawBody ?? false, logger: ['fatal'] });
  await options.setup?.(app as INestApplication);
  await app.listen(0, '127.0.0.1');
  const url = (await app.getUrl()).replace('[::1]', '127.0.0.1');
  return { app: app as INestApplication, url, close: () => app.close() };
}
