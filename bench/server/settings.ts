export type Adapter = 'express' | 'fastify';
export type StoreName = 'none' | 'passing' | 'memory' | 'postgres' | 'redis';

/** What a server of the bench is told by its environment (`BENCH_SERVER`, JSON). */
export interface ServerSettings {
  readonly adapter: Adapter;
  /** `none`: the bare handler, without the module. `passing`: as that, with a global interceptor that only passes on. */
  readonly store: StoreName;
  readonly postgresUrl: string | undefined;
  readonly redisUrl: string | undefined;
  /** How long records are kept. Short where a run makes more of them than this machine should hold. */
  readonly retention: `${number}${'s' | 'h'}`;
}

export function readSettings(): ServerSettings {
  const text = process.env['BENCH_SERVER'];
  if (!text) throw new Error('BENCH_SERVER is not set: this file is started by the bench');
  return JSON.parse(text) as ServerSettings;
}
