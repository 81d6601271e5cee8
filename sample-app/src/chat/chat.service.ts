import { Injectable } from '@nestjs/common';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { randomUUID } from 'node:crypto';
import { MeteredModel } from '../model/metered-model.js';
import type { CallOptions, ChatMessage } from '../model/model.js';
import { BillService } from '../usage/bill.service.js';
import { completionUsage, type ChatCompletion, type CompletionHead } from './chat-completion.js';
import type { ChatStream } from './chat-stream.js';

@Injectable()
export class ChatService {
  constructor(
    private readonly model: MeteredModel,
    private readonly bill: BillService,
  ) {}

  async complete(
    tenant: string,
    messages: readonly ChatMessage[],
    context: IdempotencyRunContext,
  ): Promise<ChatCompletion> {
    const run = await this.bill.beginRun(tenant, context);
    const { text, ...usage } = await this.model.chat(run, messages, callOptions(context));
    return {
      ...this.newHead(),
      object: 'chat.completion',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: completionUsage(usage),
    };
  }

  /** Resolves with the first token: as long as there is none, a model that fails can be answered with a status. */
  async stream(
    tenant: string,
    messages: readonly ChatMessage[],
    context: IdempotencyRunContext,
  ): Promise<Omit<ChatStream, 'includeUsage'>> {
    const run = await this.bill.beginRun(tenant, context);
    const rest = this.model.stream(run, messages, callOptions(context));
    return { head: this.newHead(), first: await rest.next(), rest };
  }

  private newHead(): CompletionHead {
    return { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: this.model.chatName };
  }
}

function callOptions(context: IdempotencyRunContext): CallOptions {
  return { key: context.downstreamKey('completion'), signal: context.signal };
}
