import { once } from 'node:events';
import { Redis } from 'ioredis';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { describeRedis, redisUrl } from '../support/redis-server.js';
import { answer, ioredis, Opened, request } from './clients.js';

const opened = new Opened();
afterEach(() => opened.end());

/** A store whose client is connected and whose server knows the scripts. */
async function warmStore(): Promise<{ store: IdempotencyStore; client: Redis }> {
  const connection = ioredis(redisUrl());
  const store = await opened.store(connection);
  const first = request();
  await store.claim(first);
  await store.complete(first, answer('done'), 60_000);
  await store.find(first.recordKey);
  return { store, client: connection.client };
}

/** How often the socket was handed something to write. */
function countWrites(client: Redis): () => number {
  const { stream } = client;
  let writes = 0;
  for (const name of ['_write', '_writev'] as const) {
    const method = stream[name]!.bind(stream) as (...args: unknown[]) => void;
    Object.assign(stream, {
      [name]: (...args: unknown[]) => {
        writes += 1;
        method(...args);
      },
    });
  }
  return () => writes;
}

describeRedis('Commands over ioredis', () => {
  it('leave together when they are sent in one turn of the event loop', async () => {
    const { store, client } = await warmStore();
    const writes = countWrites(client);
    const claims = Array.from({ length: 50 }, () => request());
    const results = await Promise.all(claims.map((claim) => store.claim(claim)));
    expect(results.every(({ kind }) => kind === 'claimed')).toBe(true);
    expect(writes()).toBe(1);
    await Promise.all(claims.map((claim) => store.complete(claim, answer('done'), 60_000)));
    expect(writes()).toBe(2);
    await store.claim(request());
    expect(writes()).toBe(3);
  });

  it('leave with those of the application, in the order in which they were sent', async () => {
    const { store, client } = await warmStore();
    const writes = countWrites(client);
    const claim = request();
    const [, , found] = await Promise.all([store.claim(claim), client.ping(), store.find(claim.recordKey)]);
    expect(found?.state).toBe('in_progress');
    expect(writes()).toBe(1);
  });

  it('are sent before a connection that the application quits is closed', async () => {
    const client = new Redis(redisUrl());
    // The test ends it: a second end would leave a timer of the library's behind.
    const store = await opened.store({ client, close: () => undefined });
    const claim = request();
    await store.find(claim.recordKey);
    const claiming = store.claim(claim);
    const ended = once(client, 'end');
    await client.quit();
    expect((await claiming).kind).toBe('claimed');
    await ended;
  });
});
