import { Body, Controller, Post, UseGuards } from '@nestjs/common';
import { IsInt, Max, Min } from 'class-validator';
import { Idempotent, IdempotencyContext } from 'nestjs-idempotency';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { DataSource } from 'typeorm';
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

  /** All that the handler does is in the database, and so is its record: they become true together. */
  @Post()
  @Idempotent({ transaction: true })
  buy(
    @Body() order: CreditsOrder,
    @CurrentTenant() tenant: Tenant,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<PurchaseAnswer> {
    return this.credits.buy(tenant.id, order.credits, context, context.manager);
  }
}

/**
 * The same where the records are in Redis, which shares no transaction with the rows. A run whose
 * commit was not recorded is run again, and finds its rows by the operation's own key.
 */
@Controller('v1/credits')
@UseGuards(TenantGuard)
export class KeyedCreditsController {
  constructor(
    private readonly credits: CreditsService,
    private readonly dataSource: DataSource,
  ) {}

  @Post()
  @Idempotent({ afterCrash: 'rerun' })
  buy(
    @Body() order: CreditsOrder,
    @CurrentTenant() tenant: Tenant,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<PurchaseAnswer> {
    return this.dataSource.transaction((manager) => this.credits.buy(tenant.id, order.credits, context, manager));
  }
}
