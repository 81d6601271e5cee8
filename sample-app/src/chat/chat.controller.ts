import { Body, Controller, HttpCode, Post, UseGuards } from '@nestjs/common';
import { Idempotent, IdempotencyContext } from 'nestjs-idempotency';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { CurrentTenant } from '../auth/tenant.js';
import type { Tenant } from '../auth/tenant.js';
import { TenantGuard } from '../auth/tenant.guard.js';
import type { ChatCompletion } from './chat-completion.js';
import { ChatRequest } from './chat-request.js';
import { eventStreamOf } from './chat-stream.js';
import { ChatService } from './chat.service.js';

@Controller('v1/chat/completions')
@UseGuards(TenantGuard)
export class ChatController {
  constructor(private readonly chat: ChatService) {}

  /**
   * With `afterCrash: 'block'` (the module's default here) a model call is never paid twice without a
   * person's say. A streamed answer is recorded token by token: a retry gets what there is, and then
   * the rest as it comes, on whichever process it lands.
   */
  @Post()
  @HttpCode(200)
  @Idempotent()
  async create(
    @Body() { messages, stream, stream_options }: ChatRequest,
    @CurrentTenant() tenant: Tenant,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<ChatCompletion | Response> {
    if (!stream) return this.chat.complete(tenant.id, messages, context);
    const answer = await this.chat.stream(tenant.id, messages, context);
    return eventStreamOf({ ...answer, includeUsage: stream_options?.include_usage ?? false });
  }
}
