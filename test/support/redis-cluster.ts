import { Redis } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../sample-app/src/embedded-postgres.ts';
import { startRedis, type RedisServer } from './redis-process.ts';

export interface RedisCluster {
  /** What `new Cluster(nodes)` of ioredis takes. */
  readonly nodes: { host: string; port: number }[];
  readonly servers: RedisServer[];
  stop(): Promise<void>;
}

interface Master {
  server: RedisServer;
  busPort: number;
  client: Redis;
}

const slots = 16_384;

/** Masters only, the slots dealt out evenly: enough to see a command that crosses slots refused. */
export async function startRedisCluster(size = 3): Promise<RedisCluster> {
  const masters: Master[] = [];
  try {
    while (masters.length < size) masters.push(await startMaster());
    await Promise.all(
      masters.map(({ client }, index) => client.call('CLUSTER', 'ADDSLOTSRANGE', ...share(index, size))),
    );
    for (const { server, busPort } of masters.slice(1)) {
      await masters[0]?.client.call('CLUSTER', 'MEET', '127.0.0.1', server.port, busPort);
    }
    await Promise.all(masters.map(({ client }) => untilComplete(client, size)));
  } finally {
    for (const { client } of masters) client.disconnect();
  }
  const servers = masters.map(({ server }) => server);
  return {
    nodes: servers.map(({ port }) => ({ host: '127.0.0.1', port })),
    servers,
    stop: async () => void (await Promise.all(servers.map((server) => server.stop()))),
  };
}

async function startMaster(): Promise<Master> {
  // By default the bus listens on port + 10000, which most free ports do not leave room for.
  const busPort = await freePort();
  const server = await startRedis({ args: ['--cluster-enabled', 'yes', '--cluster-port', String(busPort)] });
  return { server, busPort, client: new Redis(server.url) };
}

function share(index: number, size: number): [first: number, last: number] {
  return [Math.floor((index * slots) / size), Math.floor(((index + 1) * slots) / size) - 1];
}

async function untilComplete(client: Redis, size: number): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    const info = String(await client.call('CLUSTER', 'INFO'));
    if (info.includes('cluster_state:ok') && info.includes(`cluster_size:${size}`)) return;
    await sleep(100);
  }
  throw new Error('The Redis cluster did not form within 30 seconds');
}
