/**
 * What the store needs of a client, as structure: neither library is imported, so neither needs to
 * be installed, and a client of another copy or minor version of it fits as well.
 */

export type RedisArgument = string | Buffer;

/** `new Redis(…)` of ioredis: a single server, or Sentinel. */
export interface IoredisClient {
  call(command: string, args: RedisArgument[]): Promise<unknown>;
  callBuffer(command: string, args: RedisArgument[]): Promise<unknown>;
  duplicate(): unknown;
  readonly status: string;
}

/** `new Cluster(…)` of ioredis. */
export interface IoredisCluster extends IoredisClient {
  readonly isCluster: boolean;
}

/** `createClient(…)` of node-redis. */
export interface NodeRedisClient {
  sendCommand(args: RedisArgument[]): Promise<unknown>;
  duplicate(): unknown;
  readonly isOpen: boolean;
}

/** `createClientPool(…)` of node-redis. */
export interface NodeRedisPool {
  sendCommand(args: RedisArgument[]): Promise<unknown>;
  readonly totalClients: number;
  readonly isOpen: boolean;
}

/** `createCluster(…)` of node-redis. */
export interface NodeRedisCluster {
  sendCommand(
    firstKey: RedisArgument | undefined,
    isReadonly: boolean | undefined,
    args: RedisArgument[],
  ): Promise<unknown>;
  duplicate(): unknown;
  readonly masters: readonly unknown[];
  readonly isOpen: boolean;
}

/** `createSentinel(…)` of node-redis. */
export interface NodeRedisSentinel {
  sendCommand(isReadonly: boolean | undefined, args: RedisArgument[]): Promise<unknown>;
  duplicate(): unknown;
  getMasterNode(): unknown;
  readonly isOpen: boolean;
}

/** A ready client of ioredis (5 or newer) or node-redis (5 or newer), made and closed by the application. */
export type RedisStoreClient =
  IoredisClient | IoredisCluster | NodeRedisClient | NodeRedisPool | NodeRedisCluster | NodeRedisSentinel;
