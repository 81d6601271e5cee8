import { Injectable } from '@nestjs/common';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { randomUUID } from 'node:crypto';
import { MeteredModel } from '../model/metered-model.js';
import type { ChatMessage } from '../model/model.js';
import { BillService } from '../usage/bill.service.js';
import type { ChatCompletion } from './chat-completion.js';

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
    const { text, inputTokens, outputTokens } = await this.model.chat(run, messages, {
      key: context.downstreamKey('completion'),
      signal: context.signal,
    });
    return {
      id: `chatcmpl-${randomUUID()}`,
      object: 'chat.completion',
      created: Math.floor(Date.now() / 1000),
      model: this.model.chatName,
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: {
        prompt_tokens: inputTokens,
        completion_tokens: outputTokens,
        total_tokens: inputTokens + outputTokens,
      },
    };
  }
}
