import 'reflect-metadata';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { benchApp } from './app.js';
import { serve } from './control.js';
import { readSettings } from './settings.js';

const settings = readSettings();
const { module, end } = benchApp(settings);
const adapter = settings.adapter === 'express' ? new ExpressAdapter() : new FastifyAdapter();
const app = await NestFactory.create(module, adapter, { logger: ['error', 'warn'] });
await app.listen(0, '127.0.0.1');
const { port } = (app.getHttpServer() as Server).address() as AddressInfo;
serve(port, {}, async () => {
  await app.close();
  await end();
});
