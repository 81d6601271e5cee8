import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { randomUUID } from 'node:crypto';
import type { Repository } from 'typeorm';
import { PaymentProvider } from '../payments/payment-provider.js';
import { BillService } from '../usage/bill.service.js';
import { CreditPurchase } from './credit-purchase.entity.js';

const CENTS_PER_CREDIT = 1;

export interface PurchaseAnswer {
  readonly id: string;
  readonly object: 'credit_purchase';
  readonly credits: number;
  readonly amount_cents: number;
  readonly charge: string;
}

@Injectable()
export class CreditsService {
  constructor(
    private readonly payments: PaymentProvider,
    private readonly bill: BillService,
    @InjectRepository(CreditPurchase) private readonly purchases: Repository<CreditPurchase>,
  ) {}

  async buy(tenant: string, credits: number, context: IdempotencyRunContext): Promise<PurchaseAnswer> {
    await this.bill.beginRun(tenant, context);
    // The same key in every attempt: where the first one has charged and then died, the provider
    // answers the second with the charge that it has.
    const charge = await this.payments.charge({
      customer: tenant,
      amountCents: credits * CENTS_PER_CREDIT,
      key: context.downstreamKey('charge'),
    });
    const bought = { id: randomUUID(), tenant, credits, amountCents: charge.amountCents, chargeId: charge.id };
    await this.purchases.createQueryBuilder().insert().values(bought).orIgnore().execute();
    const purchase = await this.purchases.findOneByOrFail({ chargeId: charge.id });
    return {
      id: purchase.id,
      object: 'credit_purchase',
      credits: purchase.credits,
      amount_cents: purchase.amountCents,
      charge: purchase.chargeId,
    };
  }
}
