import { Body, Controller, Post, UseGuards } from '@nestjs/common';
import { IsInt, Max, Min } from 'class-validator';
import { Idempotent, IdempotencyContext } from 'nestjs-idempotency';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { CurrentTenant } from '../auth/tenant.js';
import type { Tenant } from '../auth/tenant.js';
import { TenantGuard } from '../auth/tenant.guard.js';
import { CreditsService, type PurchaseAnswer } from './credits.service.js';

export class CreditsOrder {
  @IsInt()
  @Min(1)
  @Max(100_000)
  credits: number;
}

@Controller('v1/credits')
@UseGuards(TenantGuard)
export class CreditsController {
  constructor(private readonly credits: CreditsService) {}

  /** `'rerun'` is safe because everything in the handler that counts is keyed: see the service. */
  @Post()
  @Idempotent({ afterCrash: 'rerun' })
  buy(
    @Body() order: CreditsOrder,
    @CurrentTenant() tenant: Tenant,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<PurchaseAnswer> {
    return this.credits.buy(tenant.id, order.credits, context);
  }
}
