import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { In, type Repository } from 'typeorm';
import { CreditPurchase } from '../credits/credit-purchase.entity.js';
import { OutboxMessage } from '../outbox/outbox-message.entity.js';
import { PaymentProvider } from '../payments/payment-provider.js';
import { HandlerRun } from './handler-run.entity.js';
import { ModelCall } from './model-call.entity.js';
import { dollars } from './prices.js';

/** The bill of one tenant. */
export interface Usage {
  readonly object: 'usage';
  readonly tenant: string;
  readonly total_cost_usd: string;
  readonly runs: readonly {
    readonly operation: string;
    readonly attempt: number;
    readonly steps: readonly string[];
    readonly started_at: Date;
  }[];
  readonly model_calls: readonly {
    readonly id: string;
    readonly operation: string;
    readonly attempt: number;
    readonly kind: string;
    readonly model: string;
    readonly input_tokens: number;
    readonly output_tokens: number;
    readonly cost_usd: string;
    readonly started_at: Date;
    readonly finished_at: Date | null;
  }[];
  readonly credits: {
    readonly bought: number;
    readonly purchases: readonly {
      readonly id: string;
      readonly credits: number;
      readonly amount_cents: number;
      /** Null: the provider has not answered yet. */
      readonly charge: string | null;
    }[];
    /** By the provider's own list: what was paid, bought or not. */
    readonly charges: readonly { readonly id: string; readonly amount_cents: number }[];
  };
}

@Injectable()
export class UsageService {
  constructor(
    @InjectRepository(HandlerRun) private readonly runs: Repository<HandlerRun>,
    @InjectRepository(ModelCall) private readonly calls: Repository<ModelCall>,
    @InjectRepository(CreditPurchase) private readonly purchases: Repository<CreditPurchase>,
    @InjectRepository(OutboxMessage) private readonly outbox: Repository<OutboxMessage>,
    private readonly payments: PaymentProvider,
  ) {}

  async of(tenant: string): Promise<Usage> {
    const runs = await this.runs.find({ where: { tenant }, order: { startedAt: 'ASC' } });
    const calls = await this.calls.find({
      where: { run: { tenant } },
      relations: { run: true },
      order: { startedAt: 'ASC' },
    });
    const purchases = await this.purchases.find({ where: { tenant }, order: { createdAt: 'ASC' } });
    const messages = await this.outbox.findBy({ key: In(purchases.map(({ chargeKey }) => chargeKey)) });
    const chargeOf = new Map(messages.map(({ key, chargeId }) => [key, chargeId]));
    const charges = await this.payments.chargesOf(tenant);
    return {
      object: 'usage',
      tenant,
      total_cost_usd: dollars(sum(calls.map((call) => call.costMicroUsd))),
      runs: runs.map(({ operation, attempt, steps, startedAt }) => ({
        operation,
        attempt,
        steps,
        started_at: startedAt,
      })),
      model_calls: calls.map((call) => ({
        id: call.id,
        operation: call.run.operation,
        attempt: call.run.attempt,
        kind: call.kind,
        model: call.model,
        input_tokens: call.inputTokens,
        output_tokens: call.outputTokens,
        cost_usd: dollars(call.costMicroUsd),
        started_at: call.startedAt,
        finished_at: call.finishedAt,
      })),
      credits: {
        bought: sum(purchases.map(({ credits }) => credits)),
        purchases: purchases.map(({ id, credits, amountCents, chargeKey }) => ({
          id,
          credits,
          amount_cents: amountCents,
          charge: chargeOf.get(chargeKey) ?? null,
        })),
        charges: charges.map(({ id, amountCents }) => ({ id, amount_cents: amountCents })),
      },
    };
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
