import 'reflect-metadata';
import { Logger } from '@nestjs/common';
import { startService } from './service.js';
import { readSettings } from './settings.js';

const logger = new Logger('Sample');
const service = await startService(readSettings());

// Instead of `app.enableShutdownHooks()`, which ends the process as soon as the application is closed:
// a Postgres of our own is to be stopped after that. `app.close()` runs the same hooks.
// Once: a second Ctrl-C ends the process at once.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    logger.log(`${signal}: finishing what runs`);
    void service.close().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error(error);
        process.exit(1);
      },
    );
  });
}

logger.log(`Listening on ${service.url}`);
// For a parent process that wants to know the port (the demo, a test).
process.send?.({ port: service.port });
