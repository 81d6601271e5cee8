import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import type { PaymentSettings } from '../settings.js';
import { PaymentProvider, type Charge, type ChargeRequest } from './payment-provider.js';

/**
 * Stands for a payment provider's API. It keeps the charges, and a log of what it was asked, as that
 * would: outside of our transactions, one charge for each key, and the money is taken before we hear of it.
 */
export class OfflinePaymentProvider extends PaymentProvider {
  constructor(
    private readonly dataSource: DataSource,
    private readonly settings: PaymentSettings,
  ) {
    super();
  }

  async charge({ customer, amountCents, key }: ChargeRequest): Promise<Charge> {
    return this.answer('charge', key, async () => {
      await this.dataSource.query(
        `INSERT INTO payment_charges (id, idempotency_key, customer, amount_cents) VALUES ($1, $2, $3, $4)
         ON CONFLICT (idempotency_key) DO NOTHING`,
        [`ch_${randomUUID()}`, key, customer, amountCents],
      );
      const [charge] = await this.find('idempotency_key', key);
      return charge!;
    });
  }

  async findCharge(key: string): Promise<Charge | undefined> {
    if (!this.settings.lookups) throw new Error('This provider does not say what became of a charge.');
    return this.answer('lookup', key, async () => (await this.find('idempotency_key', key))[0]);
  }

  chargesOf(customer: string): Promise<readonly Charge[]> {
    return this.find('customer', customer);
  }

  private async answer<T>(kind: 'charge' | 'lookup', key: string, work: () => Promise<T>): Promise<T> {
    const [{ id }] = await this.dataSource.query<[{ id: string }]>(
      'INSERT INTO payment_requests (kind, idempotency_key) VALUES ($1, $2) RETURNING id',
      [kind, key],
    );
    const result = await work();
    await pause(this.settings.delayMs);
    await this.dataSource.query('UPDATE payment_requests SET answered_at = clock_timestamp() WHERE id = $1', [id]);
    return result;
  }

  private find(column: 'idempotency_key' | 'customer', value: string): Promise<Charge[]> {
    return this.dataSource.query<Charge[]>(
      `SELECT id, amount_cents AS "amountCents" FROM payment_charges WHERE ${column} = $1 ORDER BY created_at`,
      [value],
    );
  }
}
