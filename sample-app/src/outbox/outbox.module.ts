import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { OutboxMessage } from './outbox-message.entity.js';
import { OutboxRelay } from './outbox-relay.js';

@Module({ imports: [TypeOrmModule.forFeature([OutboxMessage])], providers: [OutboxRelay] })
export class OutboxModule {}
