import { Body, Controller, HttpCode, Post, UseGuards } from '@nestjs/common';
import { Idempotent, IdempotencyContext } from 'nestjs-idempotency';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { CurrentTenant } from '../auth/tenant.js';
import type { Tenant } from '../auth/tenant.js';
import { TenantGuard } from '../auth/tenant.guard.js';
import type { ChatCompletion } from './chat-completion.js';
import { ChatRequest } from './chat-request.js';
import { ChatService } from './chat.service.js';

@Controller('v1/chat/completions')
@UseGuards(TenantGuard)
export class ChatController {
  constructor(private readonly chat: ChatService) {}

  /** With `afterCrash: 'block'` (the module's default here) a model call is never paid twice without a person's say. */
  @Post()
  @HttpCode(200)
  @Idempotent()
  create(
    @Body() { messages }: ChatRequest,
    @CurrentTenant() tenant: Tenant,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<ChatCompletion> {
    return this.chat.complete(tenant.id, messages, context);
  }
}
