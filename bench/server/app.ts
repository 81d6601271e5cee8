import {
  Body,
  Controller,
  Module,
  Post,
  RequestMethod,
  Sse,
  type DynamicModule,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Redis } from 'ioredis';
import { from } from 'rxjs';
import { Idempotent, IdempotencyModule, memoryStore, type IdempotencyModuleOptions } from 'nestjs-idempotency';
import { redisStore } from 'nestjs-idempotency/redis';
import { CreateIdempotencyRecords1764000000000, typeormStore } from 'nestjs-idempotency/typeorm';
import { receiptOf, tokens, type Order, type Receipt } from './handlers.js';
import type { ServerSettings } from './settings.js';

/** More than a run of the bench makes: a store that is full refuses. */
const MOST_RECORDS = 5_000_000;

@Controller()
class BareController {
  @Post('orders')
  create(@Body() order: Order): Receipt {
    return receiptOf(order);
  }

  @Sse('chat', { method: RequestMethod.POST })
  chat(@Body() { count }: { count: number }) {
    return from(tokens(count));
  }
}

@Controller()
class IdempotentController {
  @Post('orders')
  @Idempotent()
  create(@Body() order: Order): Receipt {
    return receiptOf(order);
  }

  /** Not idempotent, in an application that has the module. */
  @Post('plain')
  plain(@Body() order: Order): Receipt {
    return receiptOf(order);
  }

  @Sse('chat', { method: RequestMethod.POST })
  @Idempotent()
  chat(@Body() { count }: { count: number }) {
    return from(tokens(count));
  }
}

/** What any global interceptor costs, ours among them, before it does anything. */
const passing: NestInterceptor = { intercept: (_context, next) => next.handle() };

@Module({})
class BenchModule {}

export interface BenchApp {
  readonly module: DynamicModule;
  /** Ends what the application did not open by itself. */
  readonly end: () => Promise<void>;
}

export function benchApp(settings: ServerSettings): BenchApp {
  const { store, retention } = settings;
  if (store === 'none' || store === 'passing') {
    const module = moduleOf(BareController, []);
    if (store === 'passing') module.providers = [{ provide: APP_INTERCEPTOR, useValue: passing }];
    return { module, end: () => Promise.resolve() };
  }
  const redis = store === 'redis' ? new Redis(needed(settings.redisUrl)) : undefined;
  const options: IdempotencyModuleOptions = {
    scope: 'global',
    retention,
    store: redis
      ? redisStore({ client: redis })
      : store === 'postgres'
        ? typeormStore()
        : memoryStore({ maxRecords: MOST_RECORDS }),
  };
  const imports = [IdempotencyModule.forRoot(options)];
  if (store === 'postgres') imports.unshift(database(needed(settings.postgresUrl)));
  return { module: moduleOf(IdempotentController, imports), end: async () => void (await redis?.quit()) };
}

function moduleOf(controller: Type, imports: DynamicModule[]): DynamicModule {
  return { module: BenchModule, controllers: [controller], imports };
}

function database(url: string): DynamicModule {
  return TypeOrmModule.forRoot({
    type: 'postgres',
    url,
    migrations: [CreateIdempotencyRecords1764000000000],
    migrationsRun: true,
  });
}

function needed(url: string | undefined): string {
  if (!url) throw new Error('This store was given no server');
  return url;
}
