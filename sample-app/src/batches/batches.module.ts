import { Module } from '@nestjs/common';
import { UsageModule } from '../usage/usage.module.js';
import { BatchesController } from './batches.controller.js';
import { BatchesService } from './batches.service.js';

@Module({ imports: [UsageModule], controllers: [BatchesController], providers: [BatchesService] })
export class BatchesModule {}
