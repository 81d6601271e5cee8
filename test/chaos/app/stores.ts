import type { DynamicModule } from '@nestjs/common';
import type { IdempotencyStore, StoreContainer } from 'nestjs-idempotency';
import type { AppSettings } from './settings.js';

export interface AppStore {
  readonly imports: readonly (DynamicModule | Promise<DynamicModule>)[];
  create(container: StoreContainer): IdempotencyStore | Promise<IdempotencyStore>;
}

/** The store as an application would set it up, reached through this process's own proxy. */
export async function storeOf(settings: AppSettings): Promise<AppStore> {
  return settings.store === 'postgres' ? postgresStore(settings) : redisStore(settings);
}

async function postgresStore({ storePort, deadlineMs }: AppSettings): Promise<AppStore> {
  const { TypeOrmModule } = await import('@nestjs/typeorm');
  const { typeormStore } = await import('nestjs-idempotency/typeorm');
  const { default: pg } = await import('pg');
  // TypeORM holds connections for a moment before it listens for their errors, and some while it boots:
  // one that the server ends just then would end the process, with and without the library. The
  // library's own connections (by their name) are left to it.
  class ApplicationClient extends pg.Client {
    constructor(config: { readonly application_name?: string }) {
      super(config);
      if (!config.application_name?.endsWith('idempotency')) this.on('error', () => undefined);
    }
  }
  const dataSource = TypeOrmModule.forRoot({
    ...{ type: 'postgres', host: '127.0.0.1', port: storePort, username: 'postgres', database: 'postgres' },
    ...{ retryAttempts: 1_000, retryDelay: 100, connectTimeoutMS: 1_000, extra: { Client: ApplicationClient } },
  });
  return {
    imports: [dataSource],
    create: (container) => typeormStore({ deadline: deadlineMs }).createStore(container),
  };
}

async function redisStore({ storePort, deadlineMs, redisClient, minReplicas }: AppSettings): Promise<AppStore> {
  const { redisStore: make } = await import('nestjs-idempotency/redis');
  const address = { host: '127.0.0.1', port: storePort };
  if (redisClient === 'ioredis') {
    const { Redis } = await import('ioredis');
    const client = new Redis({ ...address, retryStrategy: () => 50 });
    client.on('error', () => undefined);
    return { imports: [], create: () => make({ client, deadline: deadlineMs, minReplicas }) };
  }
  const { createClient } = await import('redis');
  const client = createClient({ socket: { ...address, reconnectStrategy: () => 50 } });
  client.on('error', () => undefined);
  await client.connect();
  return { imports: [], create: () => make({ client, deadline: deadlineMs, minReplicas }) };
}
