import 'reflect-metadata';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { Body, Controller, Module, Post, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Idempotent, NodeIdempotencyModule } from '@node-idempotency/nestjs';
import { serve } from '../server/control.js';
import { receiptOf, type Order, type Receipt } from '../server/handlers.js';
import { readSettings } from '../server/settings.js';

// Resolved from the folder of this file, so the peer runs on the Nest that it asks for.

@Controller()
class BareController {
  @Post('orders')
  create(@Body() order: Order): Receipt {
    return receiptOf(order);
  }
}

@Controller()
class IdempotentController {
  @Post('orders')
  @Idempotent()
  create(@Body() order: Order): Receipt {
    return receiptOf(order);
  }
}

@Module({})
class PeerModule {}

const settings = readSettings();
const storage = { adapter: 'redis', options: { url: settings.redisUrl } };
const module: DynamicModule =
  settings.store === 'none'
    ? { module: PeerModule, controllers: [BareController] }
    : {
        module: PeerModule,
        controllers: [IdempotentController],
        imports: [NodeIdempotencyModule.forRootAsync({ storage, enforceIdempotency: true })],
      };
const adapter = settings.adapter === 'express' ? new ExpressAdapter() : new FastifyAdapter();
const app = await NestFactory.create(module, adapter, { logger: ['error', 'warn'] });
await app.listen(0, '127.0.0.1');
const { port } = (app.getHttpServer() as Server).address() as AddressInfo;
serve(port, {}, () => app.close());
