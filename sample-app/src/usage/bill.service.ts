import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { randomUUID } from 'node:crypto';
import type { Repository } from 'typeorm';
import { HandlerRun } from './handler-run.entity.js';
import { ModelCall, type ModelCallKind } from './model-call.entity.js';
import { costMicroUsd, type Tokens } from './prices.js';

/**
 * Keeps the bill. Every line is written and committed by itself, before the money is spent and in no
 * transaction of a handler: what a killed process had paid for must not disappear with it.
 */
@Injectable()
export class BillService {
  constructor(
    @InjectRepository(HandlerRun) private readonly runs: Repository<HandlerRun>,
    @InjectRepository(ModelCall) private readonly calls: Repository<ModelCall>,
  ) {}

  beginRun(tenant: string, { operation, attempt }: IdempotencyRunContext): Promise<HandlerRun> {
    return this.runs.save(this.runs.create({ id: randomUUID(), tenant, operation, attempt }));
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
