import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { freePort } from '../../sample-app/src/embedded-postgres.js';
import { describeRedis, startRedis } from '../support/redis-server.js';
import { again, answer, ioredis, nodeRedisSentinel, Opened, request, until, type TestClient } from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

/** One sentinel that watches this primary and fails over as soon as it may. */
async function startSentinel(primaryPort: number): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), 'idempotency-sentinel-'));
  const port = await freePort();
  const lines = [`port ${port}`, 'bind 127.0.0.1', `dir ${dir}`, `sentinel monitor main 127.0.0.1 ${primaryPort} 1`];
  lines.push('sentinel down-after-milliseconds main 500', 'sentinel failover-timeout main 5000');
  await writeFile(join(dir, 'sentinel.conf'), lines.join('\n'));
  const child = spawn('redis-server', [join(dir, 'sentinel.conf'), '--sentinel'], { stdio: 'ignore' });
  opened.later(async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    await rm(dir, { recursive: true, force: true });
  });
  return port;
}

const kinds: [name: string, connect: (port: number) => TestClient | Promise<TestClient>][] = [
  ['node-redis', (port) => nodeRedisSentinel('main', port)],
  [
    'ioredis',
    (port) => {
      const client = new Redis({ sentinels: [{ host: '127.0.0.1', port }], name: 'main' });
      client.on('error', () => undefined);
      return { client, close: () => client.disconnect() };
    },
  ],
];

describeRedis('Redis behind Sentinel', () => {
  it.each(kinds)(
    'goes on with the new primary after a failover: %s',
    async (_name, connect) => {
      const primary = await startRedis();
      opened.later(() => primary.stop());
      const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(primary.port)] });
      opened.later(() => replica.stop());
      const port = await startSentinel(primary.port);
      const admin = ioredis(`redis://127.0.0.1:${port}`, { enableReadyCheck: false });
      opened.later(() => admin.close());
      await until(
        async () => String(await admin.client.call('SENTINEL', 'REPLICAS', 'main')).includes(String(replica.port)),
        20_000,
      );

      const store = await opened.store(connect(port), { minReplicas: 1, deadline: '2s' });
      await until(
        () =>
          store.start!().then(
            () => true,
            () => false,
          ),
        20_000,
      );
      const first = request();
      expect(await store.claim(first)).toMatchObject({ kind: 'claimed' });
      await primary.kill();
      // The claim was on the replica before it counted, so it survives; a new one finds none to wait for.
      await until(
        () =>
          store.renew(first, 30_000).then(
            (said) => said === 'written',
            () => false,
          ),
        20_000,
      );
      expect(await store.complete(first, answer('kept'), 60_000)).toBe('written');
      const [late] = await Promise.allSettled([store.claim(again(first))]);
      expect(late).toMatchObject({ status: 'fulfilled', value: { kind: 'completed' } });
      await expect(store.claim(request())).rejects.toThrow(/0 of the 1 replicas/);
    },
    60_000,
  );
});
