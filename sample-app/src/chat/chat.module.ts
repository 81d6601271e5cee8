import { Module } from '@nestjs/common';
import { UsageModule } from '../usage/usage.module.js';
import { ChatController } from './chat.controller.js';
import { ChatService } from './chat.service.js';

@Module({ imports: [UsageModule], controllers: [ChatController], providers: [ChatService] })
export class ChatModule {}
