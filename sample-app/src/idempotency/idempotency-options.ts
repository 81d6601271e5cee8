import type { Redis } from 'ioredis';
import type { IdempotencyModuleOptions } from 'nestjs-idempotency';
import { redisStore } from 'nestjs-idempotency/redis';
import { typeormStore } from 'nestjs-idempotency/typeorm';
import { tenantOf } from '../auth/tenant.js';
import type { IdempotencySettings } from '../settings.js';

export function idempotencyOptions(
  { lease, retention, afterCrash }: IdempotencySettings,
  redis: Redis | undefined,
): IdempotencyModuleOptions {
  return {
    store: redis ? redisStore({ client: redis, prefix: 'sample-app:' }) : typeormStore(),
    // The guard has put the tenant there: two tenants may choose the same key and never meet.
    scope: (context) => tenantOf(context).id,
    lease,
    retention,
    afterCrash,
  };
}
