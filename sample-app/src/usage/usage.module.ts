import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { CreditPurchase } from '../credits/credit-purchase.entity.js';
import { OutboxMessage } from '../outbox/outbox-message.entity.js';
import { BillService } from './bill.service.js';
import { HandlerRun } from './handler-run.entity.js';
import { ModelCall } from './model-call.entity.js';
import { UsageController } from './usage.controller.js';
import { UsageService } from './usage.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([HandlerRun, ModelCall, CreditPurchase, OutboxMessage])],
  controllers: [UsageController],
  providers: [BillService, UsageService],
  exports: [BillService],
})
export class UsageModule {}
