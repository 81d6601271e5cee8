import { Injectable } from '@nestjs/common';
import { BillService } from '../usage/bill.service.js';
import type { HandlerRun } from '../usage/handler-run.entity.js';
import { estimateTokens, Model, type CallOptions, type ChatMessage, type Completion, type Embedding } from './model.js';

/** The model as the rest of the service uses it: no call without a line on the bill. */
@Injectable()
export class MeteredModel {
  constructor(
    private readonly model: Model,
    private readonly bill: BillService,
  ) {}

  async chat(run: HandlerRun, messages: readonly ChatMessage[], options: CallOptions): Promise<Completion> {
    const estimate = estimateTokens(messages.map(({ content }) => content).join(' '));
    const line = await this.bill.beginCall(run, 'chat', this.model.chatName, estimate);
    const completion = await this.model.chat(messages, options);
    await this.bill.finishCall(line, completion);
    return completion;
  }

  async embed(run: HandlerRun, text: string, options: CallOptions): Promise<Embedding> {
    const line = await this.bill.beginCall(run, 'embedding', this.model.embeddingName, estimateTokens(text));
    const embedding = await this.model.embed(text, options);
    await this.bill.finishCall(line, { inputTokens: embedding.inputTokens, outputTokens: 0 });
    return embedding;
  }

  get chatName(): string {
    return this.model.chatName;
  }
}
