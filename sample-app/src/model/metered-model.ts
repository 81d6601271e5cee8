import { setTimeout as pause } from 'node:timers/promises';
import { BillService } from '../usage/bill.service.js';
import type { HandlerRun } from '../usage/handler-run.entity.js';
import type { ModelCall } from '../usage/model-call.entity.js';
import { estimateTokens, type Model } from './model.js';
import type { CallOptions, ChatMessage, Completion, Embedding, Usage } from './model.js';

/** The model as the rest of the service uses it: no call without a line on the bill. */
export class MeteredModel {
  constructor(
    private readonly model: Model,
    private readonly bill: BillService,
    private readonly pauseMs: number,
  ) {}

  /** For a run of many calls in a row: what it waits for before each of them. The first need not wait. */
  pace(signal: AbortSignal): () => Promise<void> {
    let isFirst = true;
    return async () => {
      if (!isFirst && this.pauseMs > 0) await pause(this.pauseMs, undefined, { signal });
      isFirst = false;
    };
  }

  async chat(run: HandlerRun, messages: readonly ChatMessage[], options: CallOptions): Promise<Completion> {
    const line = await this.beginChat(run, messages);
    const completion = await this.model.chat(messages, options);
    await this.bill.finishCall(line, completion);
    return completion;
  }

  /** One line, however many tokens; it stays open if the stream breaks. */
  async *stream(
    run: HandlerRun,
    messages: readonly ChatMessage[],
    options: CallOptions,
  ): AsyncGenerator<string, Usage> {
    const line = await this.beginChat(run, messages);
    const usage = yield* this.model.stream(messages, options);
    await this.bill.finishCall(line, usage);
    return usage;
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

  private beginChat(run: HandlerRun, messages: readonly ChatMessage[]): Promise<ModelCall> {
    const estimate = estimateTokens(messages.map(({ content }) => content).join(' '));
    return this.bill.beginCall(run, 'chat', this.model.chatName, estimate);
  }
}
