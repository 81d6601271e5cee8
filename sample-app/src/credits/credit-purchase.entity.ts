import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

@Entity('credit_purchases')
export class CreditPurchase {
  @PrimaryColumn('uuid') id: string;
  @Column('text') tenant: string;
  @Column('integer') credits: number;
  @Column('integer', { name: 'amount_cents' }) amountCents: number;
  /** Unique: one charge buys once. */
  @Column('text', { name: 'charge_id', unique: true }) chargeId: string;
  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' }) createdAt: Date;
}
