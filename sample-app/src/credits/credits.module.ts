import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { UsageModule } from '../usage/usage.module.js';
import { CreditPurchase } from './credit-purchase.entity.js';
import { CreditsController } from './credits.controller.js';
import { CreditsService } from './credits.service.js';

@Module({
  imports: [UsageModule, TypeOrmModule.forFeature([CreditPurchase])],
  controllers: [CreditsController],
  providers: [CreditsService],
})
export class CreditsModule {}
