import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** A charge that is owed: written in the transaction that owes it, sent to the payment provider afterwards. */
@Entity('outbox_messages')
export class OutboxMessage {
  @PrimaryGeneratedColumn('identity', { type: 'bigint', generatedIdentity: 'ALWAYS' }) id: string;
  /** Goes along with each sending, so that the receiver takes the message once however often it comes. */
  @Column('text', { unique: true }) key: string;
  @Column('text') customer: string;
  @Column('integer', { name: 'amount_cents' }) amountCents: number;
  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' }) createdAt: Date;
  /** Later than its creation where a sending has failed. */
  @Column('timestamptz', { name: 'due_at', default: () => 'now()' }) dueAt: Date;
  @Column('timestamptz', { name: 'sent_at', nullable: true }) sentAt: Date | null;
  /** What the provider has answered. */
  @Column('text', { name: 'charge_id', nullable: true }) chargeId: string | null;
}
