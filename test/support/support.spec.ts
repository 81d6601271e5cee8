import { Cluster, Redis } from 'ioredis';
import { existsSync } from 'node:fs';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { createTestDatabase, isolatedPostgres } from './postgres.js';
import { spawnFixture } from './processes.js';
import { describeRedis, startRedis, startRedisCluster } from './redis-server.js';
import { startProxy, type TcpProxy } from './tcp-proxy.js';

async function query(url: string, statement: string, timeout = 2000): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: timeout, query_timeout: timeout });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return (await client.query(statement)).rows as unknown[];
  } finally {
    await Promise.race([client.end().catch(() => undefined), sleep(200)]);
  }
}

describe('Postgres for tests', () => {
  it('gives a test file an empty database', async () => {
    const first = await createTestDatabase('support.spec');
    await query(first.url, 'CREATE TABLE leftover (id int)');
    const second = await createTestDatabase('support.spec');
    expect(await query(second.url, `SELECT * FROM pg_tables WHERE tablename = 'leftover'`)).toEqual([]);
    await second.drop();
  });

  it('can be frozen, thawed, killed and started again on the same data and port', async () => {
    const server = await isolatedPostgres();
    expect(await query(server.url, 'SHOW fsync')).toEqual([{ fsync: 'on' }]);
    await query(server.url, 'CREATE TABLE kept (id int)');
    await server.pause();
    await expect(query(server.url, 'SELECT 1', 300)).rejects.toThrow();
    await server.resume();
    expect(await query(server.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await server.kill();
    await expect(query(server.url, 'SELECT 1')).rejects.toThrow();
    await server.restart();
    expect(await query(server.url, 'SELECT * FROM kept')).toEqual([]);
    const before = server.pid;
    await server.restart();
    expect(server.pid).not.toBe(before);
    await server.pause();
    await server.stop();
    expect(existsSync(server.dataDir)).toBe(false);
  });
});

describeRedis('Redis for tests', () => {
  it('keeps its data through a restart', async () => {
    const server = await startRedis();
    const client = new Redis(server.url);
    await client.set('kept', 'yes');
    client.disconnect();
    await sleep(1100);
    await server.kill();
    await server.restart();
    const again = new Redis(server.url);
    expect(await again.get('kept')).toBe('yes');
    again.disconnect();
    await server.stop();
  });

  it('forms a cluster', async () => {
    const cluster = await startRedisCluster(3);
    const client = new Cluster(cluster.nodes);
    const keys = ['a', 'b', 'c', 'd', 'e'];
    for (const key of keys) await client.set(key, key);
    expect(await Promise.all(keys.map((key) => client.get(key)))).toEqual(keys);
    client.disconnect();
    await cluster.stop();
  });
});

describe('a fixture process', () => {
  it('runs TypeScript with decorators and is ready when it listens', async () => {
    const app = await spawnFixture(new URL('./fixtures/tiny-app.ts', import.meta.url), { args: ['Ada'] });
    expect(await (await fetch(app.url)).text()).toBe('hello Ada');
    app.kill('SIGTERM');
    expect(await app.exited).toEqual({ code: null, signal: 'SIGTERM' });
  });

  it('shows what it printed when it cannot start', async () => {
    await expect(spawnFixture('no-such-file.ts')).rejects.toThrow(/no-such-file/);
  });
});

describe('the proxy', () => {
  const received: string[] = [];
  const echo = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      received.push(data.toString());
      socket.write(data);
    });
  });
  let proxy: TcpProxy;
  let client: Socket;

  beforeEach(async () => {
    received.length = 0;
    if (!echo.listening) await once(echo.listen(0, '127.0.0.1'), 'listening');
    proxy = await startProxy((echo.address() as AddressInfo).port);
    client = connect(proxy.port, '127.0.0.1');
    await once(client, 'connect');
  });

  afterEach(async () => {
    client.on('error', () => undefined);
    await proxy.close();
  });

  afterAll(() => void echo.close());

  async function ask(text: string): Promise<string> {
    client.write(text);
    return String((await once(client, 'data'))[0]);
  }

  it('passes on', async () => {
    expect(await ask('ping')).toBe('ping');
  });

  it('withholds as many replies as it is told, after the request has gone through', async () => {
    proxy.dropReplies(1);
    client.write('work');
    await expect(once(client, 'data')).rejects.toThrow(/ECONNRESET/);
    expect(received).toEqual(['work']);
    client = connect(proxy.port, '127.0.0.1');
    expect(await ask('again')).toBe('again');
  });

  it('swallows, and resets afterwards what has lost bytes', async () => {
    proxy.blackhole(true);
    client.write('lost');
    await sleep(50);
    expect(received).toEqual([]);
    const reset = once(client, 'data');
    proxy.blackhole(false);
    await expect(reset).rejects.toThrow(/ECONNRESET/);
  });

  it('refuses and accepts again on the same port', async () => {
    await proxy.refuse(true);
    await expect(once(connect(proxy.port, '127.0.0.1'), 'connect')).rejects.toThrow(/ECONNREFUSED/);
    expect(await ask('open ones live on')).toBe('open ones live on');
    await proxy.refuse(false);
    await once(
      connect(proxy.port, '127.0.0.1').on('error', () => undefined),
      'connect',
    );
  });

  it('delays and slices without changing order or bytes', async () => {
    proxy.delay(50);
    proxy.slice(2);
    const start = Date.now();
    let text = '';
    client.on('data', (data) => (text += data.toString()));
    client.write('abcdefg');
    while (text.length < 7) await sleep(5);
    expect(text).toBe('abcdefg');
    expect(Date.now() - start).toBeGreaterThanOrEqual(95);
    expect(received.length).toBeGreaterThan(1);
  });
});
