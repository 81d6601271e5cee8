import { Body, Controller, Post, UseGuards } from '@nestjs/common';
import { IsInt, Max, Min } from 'class-validator';
import { Idempotent, IdempotencyContext } from 'nestjs-idempotency';
import type { IdempotencyRunContext, RecoverFunction } from 'nestjs-idempotency';
import { CurrentTenant } from '../auth/tenant.js';
import type { Tenant } from '../auth/tenant.js';
import { TenantGuard } from '../auth/tenant.guard.js';
import { PaymentProvider, type Charge } from '../payments/payment-provider.js';
import { BillService } from '../usage/bill.service.js';

export class ChargeOrder {
  @IsInt()
  @Min(1)
  @Max(1_000_000)
  amount_cents: number;
}

interface ChargeAnswer {
  readonly id: string;
  readonly object: 'charge';
  readonly amount_cents: number;
}

/**
 * After a crash the provider knows what we do not. Only one process asks at a time. Where it does not
 * say, its error leaves the outcome unknown, until it does, or until an operator settles it.
 */
const askProvider: RecoverFunction = async (_record, context, providers) => {
  const payments = providers.get<PaymentProvider>(PaymentProvider);
  const charge = await payments.findCharge(context.downstreamKey('charge'));
  return charge ? { completed: { status: 201, body: answerOf(charge) } } : 'rerun';
};

@Controller('v1/charges')
@UseGuards(TenantGuard)
export class ChargesController {
  constructor(
    private readonly payments: PaymentProvider,
    private readonly bill: BillService,
  ) {}

  /** An effect outside, which no transaction of ours can take back. */
  @Post()
  @Idempotent({ afterCrash: askProvider })
  async charge(
    @Body() order: ChargeOrder,
    @CurrentTenant() tenant: Tenant,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<ChargeAnswer> {
    await this.bill.beginRun(tenant.id, context);
    const request = { customer: tenant.id, amountCents: order.amount_cents, key: context.downstreamKey('charge') };
    return answerOf(await this.payments.charge(request));
  }
}

function answerOf({ id, amountCents }: Charge): ChargeAnswer {
  return { id, object: 'charge', amount_cents: amountCents };
}
