import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { randomUUID } from 'node:crypto';
import type { EntityManager, Repository } from 'typeorm';
import { HandlerRun } from './handler-run.entity.js';
import { ModelCall, type ModelCallKind } from './model-call.entity.js';
import { costMicroUsd, type Tokens } from './prices.js';

/**
 * Keeps the bill. A line of a paid call is written and committed by itself, before the money is spent:
 * what a killed process had paid for must not disappear with it.
 */
@Injectable()
export class BillService {
  constructor(
    @InjectRepository(HandlerRun) private readonly runs: Repository<HandlerRun>,
    @InjectRepository(ModelCall) private readonly calls: Repository<ModelCall>,
  ) {}

  /**
   * `manager`: that of a handler which spends nothing but rows of its transaction. There the line comes
   * and goes with them, and the handler holds one connection and not two (ten such handlers would
   * otherwise hold all ten of the pool, and each would wait for an eleventh).
   */
  beginRun(
    tenant: string,
    { operation, attempt }: IdempotencyRunContext,
    manager: EntityManager = this.runs.manager,
  ): Promise<HandlerRun> {
    return manager.save(this.runs.create({ id: randomUUID(), tenant, operation, attempt }));
  }

  /** Called when a step is recorded; one whose result an earlier run has left is none of this run's. */
  async finishStep({ id }: HandlerRun, name: string): Promise<void> {
    const steps = (): string => 'steps || to_jsonb(CAST(:name AS text))';
    await this.runs.createQueryBuilder().update().set({ steps }).where({ id }).setParameter('name', name).execute();
  }

  /** A provider charges for the input as soon as it has taken the request. */
  beginCall(run: HandlerRun, kind: ModelCallKind, model: string, inputTokens: number): Promise<ModelCall> {
    const tokens = { inputTokens, outputTokens: 0 };
    const line = { id: randomUUID(), run, kind, model, ...tokens, costMicroUsd: costMicroUsd(kind, tokens) };
    return this.calls.save(this.calls.create(line));
  }

  async finishCall({ id, kind }: ModelCall, { inputTokens, outputTokens }: Tokens): Promise<void> {
    const cost = costMicroUsd(kind, { inputTokens, outputTokens });
    await this.calls.update(id, { inputTokens, outputTokens, costMicroUsd: cost, finishedAt: new Date() });
  }
}
