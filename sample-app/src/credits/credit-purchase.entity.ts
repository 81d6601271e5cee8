import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

@Entity('credit_purchases')
export class CreditPurchase {
  @PrimaryColumn('uuid') id: string;
  @Column('text') tenant: string;
  @Column('integer') credits: number;
  @Column('integer', { name: 'amount_cents' }) amountCents: number;
  /** The key of the message that orders the charge. Unique: one operation buys once. */
  @Column('text', { name: 'charge_key', unique: true }) chargeKey: string;
  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' }) createdAt: Date;
}
