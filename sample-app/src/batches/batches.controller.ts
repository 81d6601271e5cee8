import { Body, Controller, HttpCode, Post, UseGuards } from '@nestjs/common';
import { Idempotent, IdempotencyContext } from 'nestjs-idempotency';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { CurrentTenant } from '../auth/tenant.js';
import type { Tenant } from '../auth/tenant.js';
import { TenantGuard } from '../auth/tenant.guard.js';
import { BatchRequest } from './batch-request.js';
import { BatchesService, type BatchAnswer } from './batches.service.js';

/** A thousand answers of a model. */
const LARGEST_ANSWER = 16 * 1024 * 1024;

@Controller('v1/batches')
@UseGuards(TenantGuard)
export class BatchesController {
  constructor(private readonly batches: BatchesService) {}

  /** Runs again as a whole after a crash; that its finished items do not is their own records' doing. */
  @Post()
  @HttpCode(200)
  @Idempotent({ afterCrash: 'rerun', maxDuration: '1h', maxRecordBytes: LARGEST_ANSWER })
  create(
    @Body() batch: BatchRequest,
    @CurrentTenant() tenant: Tenant,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<BatchAnswer> {
    return this.batches.run(tenant.id, batch, context);
  }
}
