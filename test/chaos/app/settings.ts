/** How the runner tells an application what it is; in the environment, as JSON. */
export interface AppSettings {
  readonly server: string;
  readonly platform: 'express' | 'fastify';
  readonly store: 'postgres' | 'redis';
  readonly redisClient: 'ioredis' | 'node-redis';
  readonly mode: 'block' | 'rerun';
  /** Whether the handlers write into the database, in the transaction of their record. */
  readonly transaction: boolean;
  /** Of this application's own proxy to the store. */
  readonly storePort: number;
  readonly ledgerPort: number;
  /** File to which it appends what it does. */
  readonly journal: string;
  readonly minReplicas: number;
  readonly leaseMs: number;
  readonly deadlineMs: number;
  readonly briefMs: number;
  readonly purgeMs: number;
  readonly secret: string;
  readonly seed: number;
  /** How probable it is at each crash point that the process kills itself. */
  readonly crash: number;
  /** How probable it is that the reply to a claim or a completion is cut off. */
  readonly cut: number;
}

export function readSettings(): AppSettings {
  return JSON.parse(process.env.CHAOS_APP!) as AppSettings;
}

/** Milliseconds of the machine's monotonic clock, the same for all processes. */
export function machineNow(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}
