import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { PaymentProvider, type Charge, type ChargeRequest } from './payment-provider.js';

/**
 * Stands for a payment provider's API. It keeps the charges as that would: outside of our
 * transactions, once for each key, and the money is taken before we hear of it.
 */
export class OfflinePaymentProvider extends PaymentProvider {
  constructor(
    private readonly dataSource: DataSource,
    private readonly delayMs: number,
  ) {
    super();
  }

  async charge({ customer, amountCents, key }: ChargeRequest): Promise<Charge> {
    await this.dataSource.query(
      `INSERT INTO payment_charges (id, idempotency_key, customer, amount_cents) VALUES ($1, $2, $3, $4)
       ON CONFLICT (idempotency_key) DO NOTHING`,
      [`ch_${randomUUID()}`, key, customer, amountCents],
    );
    const [charge] = await this.find('idempotency_key', key);
    await pause(this.delayMs);
    return charge!;
  }

  chargesOf(customer: string): Promise<readonly Charge[]> {
    return this.find('customer', customer);
  }

  private find(column: 'idempotency_key' | 'customer', value: string): Promise<Charge[]> {
    return this.dataSource.query<Charge[]>(
      `SELECT id, amount_cents AS "amountCents" FROM payment_charges WHERE ${column} = $1 ORDER BY created_at`,
      [value],
    );
  }
}
