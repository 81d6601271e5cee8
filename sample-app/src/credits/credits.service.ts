import { Injectable } from '@nestjs/common';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { OutboxMessage } from '../outbox/outbox-message.entity.js';
import { BillService } from '../usage/bill.service.js';
import { CreditPurchase } from './credit-purchase.entity.js';

const CENTS_PER_CREDIT = 1;

export interface PurchaseAnswer {
  readonly id: string;
  readonly object: 'credit_purchase';
  readonly credits: number;
  readonly amount_cents: number;
}

@Injectable()
export class CreditsService {
  constructor(private readonly bill: BillService) {}

  /**
   * The credits are there at once, and the charge is made afterwards, by the outbox's relay. Both rows
   * are written in one transaction: no credits without a charge, no charge without credits.
   */
  async buy(
    tenant: string,
    credits: number,
    context: IdempotencyRunContext,
    manager: EntityManager,
  ): Promise<PurchaseAnswer> {
    await this.bill.beginRun(tenant, context, manager);
    const amountCents = credits * CENTS_PER_CREDIT;
    const chargeKey = context.downstreamKey('charge');
    await this.insertOnce(manager, CreditPurchase, { id: randomUUID(), tenant, credits, amountCents, chargeKey });
    await this.insertOnce(manager, OutboxMessage, { key: chargeKey, customer: tenant, amountCents });
    const { id } = await manager.findOneByOrFail(CreditPurchase, { chargeKey });
    return { id, object: 'credit_purchase', credits, amount_cents: amountCents };
  }

  /** The rows are keyed by the operation: for a run whose records are not in this database, see the controllers. */
  private async insertOnce<T extends object>(
    manager: EntityManager,
    entity: new () => T,
    row: Partial<T>,
  ): Promise<void> {
    await manager
      .createQueryBuilder()
      .insert()
      .into(entity)
      .values(row as never)
      .orIgnore()
      .execute();
  }
}
