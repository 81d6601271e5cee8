import { Injectable, Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { setTimeout as pause } from 'node:timers/promises';
import { DataSource } from 'typeorm';
import { PaymentProvider } from '../payments/payment-provider.js';
import { OutboxMessage } from './outbox-message.entity.js';

/** How soon a new message is noticed. */
const LOOK_EVERY_MS = 100;
/** A provider that has failed is left alone for a while. */
const AGAIN_AFTER = '5 seconds';

/**
 * Sends what the transactions have left in the outbox. A crash between sending and marking sends the
 * message again; its key makes that harmless.
 */
@Injectable()
export class OutboxRelay implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly logger = new Logger('Outbox');
  private readonly stopping = new AbortController();
  private ended: Promise<void> | undefined;

  constructor(
    private readonly dataSource: DataSource,
    private readonly payments: PaymentProvider,
  ) {}

  onApplicationBootstrap(): void {
    this.ended = this.relay();
  }

  /** Before the database is closed: what is being sent is marked. */
  async onModuleDestroy(): Promise<void> {
    this.stopping.abort();
    await this.ended;
  }

  private async relay(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const sent = await this.sendNext().catch((error: unknown) => {
        this.logger.warn(error);
        return false;
      });
      if (!sent) await pause(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /**
   * The row stays locked from the choice to the mark: no other relay sends the same message meanwhile,
   * and where this process dies, Postgres lets the row go at once.
   */
  private async sendNext(): Promise<boolean> {
    return this.dataSource.transaction(async (manager) => {
      const message = await manager
        .createQueryBuilder(OutboxMessage, 'message')
        .where('message.sentAt IS NULL AND message.dueAt <= now()')
        .orderBy('message.dueAt')
        .limit(1)
        .setLock('pessimistic_write')
        .setOnLocked('skip_locked')
        .getOne();
      if (!message) return false;
      const { id, key, customer, amountCents } = message;
      try {
        const charge = await this.payments.charge({ customer, amountCents, key });
        await manager.update(OutboxMessage, id, { sentAt: () => 'now()', chargeId: charge.id });
      } catch (error) {
        this.logger.warn(error);
        await manager.update(OutboxMessage, id, { dueAt: () => `now() + interval '${AGAIN_AFTER}'` });
      }
      return true;
    });
  }
}
