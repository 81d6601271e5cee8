import { Logger } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { startEmbeddedPostgres } from './embedded-postgres.js';
import type { Settings } from './settings.js';

/** The servers that the application talks to. They are there before it starts and until it has ended. */
export interface Connections {
  readonly databaseUrl: string;
  readonly redis: Redis | undefined;
  close(): Promise<void>;
}

export async function openConnections(settings: Pick<Settings, 'databaseUrl' | 'redisUrl'>): Promise<Connections> {
  const redis = settings.redisUrl === undefined ? undefined : await connectRedis(settings.redisUrl);
  const postgres = settings.databaseUrl === undefined ? await startEmbeddedPostgres() : undefined;
  return {
    databaseUrl: postgres?.url ?? settings.databaseUrl!,
    redis,
    async close() {
      redis?.disconnect();
      await postgres?.stop();
    },
  };
}

/** ioredis is loaded only here: without REDIS_URL the application runs where it is not installed. */
async function connectRedis(url: string): Promise<Redis> {
  const { Redis } = await import('ioredis');
  const client = new Redis(url);
  const logger = new Logger('Redis');
  client.on('error', (error: Error) => logger.warn(error.message));
  return client;
}
