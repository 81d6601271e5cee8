import { Module, type INestApplicationContext, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { getRepositoryToken, TypeOrmModule } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import type { IdempotencyStore, StoreContainer } from '../../lib/core/store.js';
import {
  IdempotencyRecordEntity,
  idempotencyEntities,
  typeormStore,
  type TypeormStoreOptions,
} from '../../lib/stores/typeorm/index.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { answer, HOUR_MS, request } from './requests.js';

let database: TestDatabase;
let app: INestApplicationContext | undefined;

beforeEach(async () => {
  database = await createTestDatabase('nest');
});

afterEach(async () => {
  await app?.close();
  app = undefined;
  await database.drop();
});

async function boot(module: Type<unknown>): Promise<INestApplicationContext> {
  app = await NestFactory.createApplicationContext(module, { logger: false });
  return app;
}

function containerOf(context: INestApplicationContext): StoreContainer {
  return { get: <T>(token: unknown): T => context.get<T>(token as Type<T>, { strict: false }) };
}

/** One whole life of a record over a store as the module would make it. */
async function serves(context: INestApplicationContext, options: TypeormStoreOptions = {}): Promise<void> {
  const store: IdempotencyStore = await typeormStore(options).createStore(containerOf(context));
  await store.start?.();
  const own = request();
  expect((await store.claim(own)).kind).toBe('claimed');
  expect(await store.complete(own, answer(), HOUR_MS)).toBe('written');
  expect((await store.claim(request({ recordKey: own.recordKey }))).kind).toBe('completed');
  await store.stop?.();
}

const connection = () => ({ type: 'postgres' as const, url: database.url, synchronize: true, autoLoadEntities: true });

it('finds the unnamed DataSource of the application, and the entity that a module has registered', async () => {
  @Module({ imports: [TypeOrmModule.forFeature(idempotencyEntities())] })
  class RecordsModule {}
  @Module({ imports: [TypeOrmModule.forRoot(connection()), RecordsModule] })
  class AppModule {}
  const context = await boot(AppModule);
  await serves(context);
  const repository = context.get<Repository<IdempotencyRecordEntity>>(getRepositoryToken(IdempotencyRecordEntity), {
    strict: false,
  });
  const [record] = await repository.find();
  expect(record).toMatchObject({ operation: 'POST /orders', state: 'completed', attempt: 1, status: 201, prior: null });
  expect(record?.body?.toString()).toBe('done');
  expect(record?.expiresAt).toBeInstanceOf(Date);
});

it('finds a DataSource by its name, and an entity of another name and prefix', async () => {
  const entities = idempotencyEntities({ table: 'request_records' });
  @Module({
    imports: [
      TypeOrmModule.forRoot({ ...connection(), name: 'other', synchronize: false }),
      TypeOrmModule.forRootAsync({
        name: 'audit',
        useFactory: () => ({ ...connection(), name: 'audit', entityPrefix: 'app_' }),
      }),
      TypeOrmModule.forFeature(entities, 'audit'),
    ],
  })
  class AppModule {}
  const context = await boot(AppModule);
  await serves(context, { dataSource: 'audit' });
  const repository = context.get<Repository<IdempotencyRecordEntity>>(getRepositoryToken(entities[0]!, 'audit'), {
    strict: false,
  });
  expect(await repository.count()).toBe(1);
  expect(repository.metadata.tableName).toBe('app_request_records');
});

it('says what is missing where the application has no DataSource of that name', async () => {
  @Module({ imports: [TypeOrmModule.forRoot(connection())] })
  class AppModule {}
  const container = containerOf(await boot(AppModule));
  await expect(typeormStore({ dataSource: 'audit' }).createStore(container)).rejects.toThrow(
    /no DataSource named 'audit'/,
  );
});
