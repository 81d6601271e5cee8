import { Module, ValidationPipe, type DynamicModule } from '@nestjs/common';
import { APP_FILTER, APP_PIPE } from '@nestjs/core';
import { IdempotencyModule } from 'nestjs-idempotency';
import { ApiErrorFilter } from './api/api-error.filter.js';
import { validationError } from './api/validation-error.js';
import { BatchesModule } from './batches/batches.module.js';
import { ChargesModule } from './charges/charges.module.js';
import { ChatModule } from './chat/chat.module.js';
import type { Connections } from './connections.js';
import { CreditsModule } from './credits/credits.module.js';
import { DatabaseModule } from './database/database.module.js';
import { DocumentsModule } from './documents/documents.module.js';
import { idempotencyOptions } from './idempotency/idempotency-options.js';
import { ModelModule } from './model/model.module.js';
import { OperatorModule } from './operator/operator.module.js';
import { PaymentsModule } from './payments/payments.module.js';
import type { Settings } from './settings.js';
import { UsageModule } from './usage/usage.module.js';

@Module({})
export class AppModule {
  static with(settings: Settings, connections: Connections): DynamicModule {
    return {
      module: AppModule,
      imports: [
        DatabaseModule.at(connections.databaseUrl),
        IdempotencyModule.forRoot(idempotencyOptions(settings.idempotency, connections.redis)),
        ModelModule.with(settings.model),
        PaymentsModule.with(settings.payments),
        UsageModule,
        ChatModule,
        DocumentsModule,
        CreditsModule.with({ recordsInDatabase: connections.redis === undefined }),
        ChargesModule,
        BatchesModule,
        OperatorModule,
      ],
      providers: [
        { provide: APP_FILTER, useClass: ApiErrorFilter },
        {
          provide: APP_PIPE,
          useFactory: () => new ValidationPipe({ transform: true, exceptionFactory: validationError }),
        },
      ],
    };
  }
}
