import { Redis } from 'ioredis';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { startRedis, type RedisServer } from '../support/redis-process.js';
import { redisStoreServer, type StoreServer } from './store-server.js';

/** A Redis with a replica that is so much behind, and what an operator or Sentinel does when it dies. */
export interface RedisPair {
  /** The server, seen through whichever is primary at the time. */
  readonly server: StoreServer;
  /** SIGKILL for the primary; the replica becomes primary, and the old one its replica. @returns the new port */
  failOver(): Promise<number>;
  /** Resolves when the replica is in step. */
  inStep(): Promise<void>;
}

export async function startRedisPair(lagMs: number): Promise<RedisPair> {
  const ends: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of ends.reverse()) await end();
  };
  const startOne = async (): Promise<{ redis: RedisServer; behind: TcpProxy }> => {
    const redis = await startRedis({ args: ['--appendfsync', 'always'] });
    ends.push(() => redis.stop());
    // The replica of this one is connected through here.
    const behind = await startProxy(redis.port);
    ends.push(() => behind.close());
    behind.delay(lagMs);
    return { redis, behind };
  };
  try {
    let [primary, replica] = [await startOne(), await startOne()];
    const follow = (): Promise<unknown> =>
      ask(replica.redis, (client) => client.replicaof('127.0.0.1', primary.behind.port));
    await follow();
    const inStep = async (): Promise<void> => {
      for (;;) {
        const info = await ask(replica.redis, (client) => client.info('replication'));
        if (/role:slave/.test(info) && /master_link_status:up/.test(info)) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    await inStep();
    return {
      server: { ...(await redisStoreServer(() => primary.redis)), stop },
      inStep,
      async failOver() {
        await primary.redis.kill();
        await ask(replica.redis, (client) => client.replicaof('NO', 'ONE'));
        [primary, replica] = [replica, primary];
        await replica.redis.restart();
        await follow();
        return primary.redis.port;
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function ask<T>({ url }: RedisServer, question: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url);
  client.on('error', () => undefined);
  try {
    return await question(client);
  } finally {
    client.disconnect();
  }
}
