import { Injectable } from '@nestjs/common';
import { IdempotencyService, type IdempotencyRunContext } from 'nestjs-idempotency';
import { MeteredModel } from '../model/metered-model.js';
import { BillService } from '../usage/bill.service.js';
import type { BatchItem, BatchRequest } from './batch-request.js';
import { inParallel } from './in-parallel.js';

/** Items under way at a time, and so the most that a crash can cost. */
export const ITEMS_AT_A_TIME = 8;

export interface BatchAnswer {
  readonly object: 'batch';
  /** Of the run that completed it. */
  readonly attempt: number;
  /** Items that this run has done, and those that an earlier one had. */
  readonly ran: number;
  readonly replayed: number;
  readonly results: readonly { readonly id: string; readonly output: string }[];
}

@Injectable()
export class BatchesService {
  constructor(
    private readonly idempotency: IdempotencyService,
    private readonly model: MeteredModel,
    private readonly bill: BillService,
  ) {}

  async run(
    tenant: string,
    { instruction, items }: BatchRequest,
    context: IdempotencyRunContext,
  ): Promise<BatchAnswer> {
    await this.bill.beginRun(tenant, context);
    const outcomes = await inParallel(items, ITEMS_AT_A_TIME, async (item) => {
      context.signal.throwIfAborted();
      return this.runItem(tenant, instruction, item, context);
    });
    const replayed = outcomes.filter((outcome) => outcome.replayed).length;
    return {
      ...{ object: 'batch', attempt: context.attempt, ran: items.length - replayed, replayed },
      results: outcomes.map(({ value }, index) => ({ id: items[index]!.id, output: value })),
    };
  }

  /** An operation of its own, not a step of the batch: with its own claim, its own lease and its own record. */
  private runItem(
    tenant: string,
    instruction: string,
    item: BatchItem,
    batch: IdempotencyRunContext,
  ): Promise<{ value: string; replayed: boolean }> {
    return this.idempotency.run(
      {
        ...{ operation: 'batch item', scope: tenant, key: batch.downstreamKey(`item ${item.id}`) },
        payload: { instruction, text: item.text },
        afterCrash: 'rerun',
        // What was cut by a crash is waited for until its lease is over, and is then run here.
        ...{ inFlight: 'join', joinTimeout: '5m' },
      },
      async (context) => {
        const run = await this.bill.beginRun(tenant, context);
        const messages = [
          { role: 'system', content: instruction },
          { role: 'user', content: item.text },
        ];
        const signal = AbortSignal.any([context.signal, batch.signal]);
        const { text } = await this.model.chat(run, messages, { key: context.downstreamKey('completion'), signal });
        return text;
      },
    );
  }
}
