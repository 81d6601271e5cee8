import { Module, type DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { CreateIdempotencyRecords1764000000000, idempotencyEntities } from 'nestjs-idempotency/typeorm';
import { CreateSampleTables1764100000000 } from './migrations/1764100000000-create-sample-tables.js';

@Module({})
export class DatabaseModule {
  static at(url: string): DynamicModule {
    return {
      module: DatabaseModule,
      imports: [
        TypeOrmModule.forRoot({
          type: 'postgres',
          url,
          autoLoadEntities: true,
          // So that a migration generated from the entities does not propose to drop the library's tables.
          entities: idempotencyEntities(),
          migrations: [CreateIdempotencyRecords1764000000000, CreateSampleTables1764100000000],
          migrationsRun: true,
        }),
      ],
    };
  }
}
