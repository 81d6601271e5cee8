import { Module, type DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { OutboxModule } from '../outbox/outbox.module.js';
import { UsageModule } from '../usage/usage.module.js';
import { CreditPurchase } from './credit-purchase.entity.js';
import { CreditsController, KeyedCreditsController } from './credits.controller.js';
import { CreditsService } from './credits.service.js';

@Module({})
export class CreditsModule {
  static with({ recordsInDatabase }: { readonly recordsInDatabase: boolean }): DynamicModule {
    return {
      module: CreditsModule,
      imports: [UsageModule, OutboxModule, TypeOrmModule.forFeature([CreditPurchase])],
      controllers: [recordsInDatabase ? CreditsController : KeyedCreditsController],
      providers: [CreditsService],
    };
  }
}
