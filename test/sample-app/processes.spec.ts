import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { startService } from '../../sample-app/src/service.js';
import { createTestDatabase } from '../support/postgres.js';
import { spawnFixture } from '../support/processes.js';
import { describeRedis, redisUrl } from '../support/redis-server.js';
import { chat, post, settingsAt, usage } from './service.js';

const main = new URL('../../sample-app/src/main.ts', import.meta.url);

describe('the process of the sample application', () => {
  it('ends in good order: what runs is finished, answered and recorded', async () => {
    const database = await createTestDatabase('sample-app/processes.spec');
    const env = { DATABASE_URL: database.url, REDIS_URL: '', PORT: '0', MODEL_DELAY_MS: '1500' };
    const app = await spawnFixture(main, { env });
    const running = post(app, '/v1/chat/completions', { key: 'late', body: chat('Is it late?') });
    while ((await usage(app)).model_calls.length === 0) await pause(20);
    app.kill('SIGTERM');
    const answer = await running;
    expect(answer.status).toBe(200);
    expect(await app.exited).toEqual({ code: 0, signal: null });

    const next = await startService(settingsAt(database.url), { logger: false });
    const replay = await post(next, '/v1/chat/completions', { key: 'late', body: chat('Is it late?') });
    expect(replay.headers.get('idempotent-replayed')).toBe('true');
    expect(replay.text).toBe(answer.text);
    await next.close();
    await database.drop();
  });

  it('does not start with a setting that makes no sense', async () => {
    const env = { DATABASE_URL: 'postgres://127.0.0.1:1/nowhere', REDIS_URL: '', LEASE: 'soon' };
    await expect(spawnFixture(main, { env })).rejects.toThrow(/lease: 'soon' is no duration/);
  });
});

describeRedis('the sample application with REDIS_URL', () => {
  it('keeps records in Redis and everything else in Postgres', async () => {
    const database = await createTestDatabase('sample-app/processes.spec/redis');
    const key = `redis-${process.pid}-${Date.now()}`;
    const service = await startService(settingsAt(database.url, { REDIS_URL: redisUrl() }), { logger: false });
    const first = await post(service, '/v1/chat/completions', { key, body: chat('Where are you?') });
    const retry = await post(service, '/v1/chat/completions', { key, body: chat('Where are you?') });
    expect(retry.headers.get('idempotent-replayed')).toBe('true');
    expect(retry.text).toBe(first.text);
    expect((await usage(service)).model_calls).toHaveLength(1);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    expect((await client.query('SELECT 1 FROM idempotency_records')).rows).toEqual([]);
    await client.end();
    await service.close();
    await database.drop();
  });
});
