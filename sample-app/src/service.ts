import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule } from './app.module.js';
import { openConnections } from './connections.js';
import type { Settings } from './settings.js';

export interface RunningService {
  readonly app: NestExpressApplication;
  readonly port: number;
  readonly url: string;
  /** Lets running requests end and be recorded, then closes everything; the database last. */
  close(): Promise<void>;
}

export interface ServiceOptions {
  /** False: nothing is logged. */
  readonly logger?: false;
}

export async function startService(settings: Settings, options: ServiceOptions = {}): Promise<RunningService> {
  const connections = await openConnections(settings);
  try {
    const app = await NestFactory.create<NestExpressApplication>(AppModule.with(settings, connections), {
      ...options,
      // With the body's own bytes at hand, numbers that JavaScript would round stay different in a fingerprint.
      rawBody: true,
      // A failed start is thrown, so that a Postgres of our own is stopped before the process ends.
      abortOnError: false,
    });
    // A batch of a thousand texts is more than the 100 kB that Express takes by itself.
    app.useBodyParser('json', { limit: '5mb' });
    await app.listen(settings.port);
    const { port } = app.getHttpServer().address() as { port: number };
    return {
      app,
      port,
      url: `http://127.0.0.1:${port}`,
      async close() {
        await app.close();
        await connections.close();
      },
    };
  } catch (error) {
    await connections.close();
    throw error;
  }
}
