export { startRedisCluster, type RedisCluster } from './redis-cluster.ts';
export { hasRedisServer, startRedis, type RedisServer, type RedisServerOptions } from './redis-process.ts';

/** The Redis of this test run; the global setup has started it unless `REDIS_URL` was given. */
export function redisUrl(): string {
  const url = process.env.REDIS_URL;
  if (!url) throw new Error('There is no Redis in this run; use describeRedis');
  return url;
}

export function hasRedis(): boolean {
  return Boolean(process.env.REDIS_URL);
}

/** A `describe` that needs Redis. Without one nothing in it runs, and the output says so. */
export function describeRedis(name: string, body: () => void): void {
  if (hasRedis()) {
    describe(name, body);
    return;
  }
  console.warn(`NOT RUN, because there is no Redis: ${name}`);
  // A file without a single test is an error to Jest, and a skipped test shows in the totals.
  describe.skip(name, () => it('needs a redis-server on the PATH or REDIS_URL', () => undefined));
}
