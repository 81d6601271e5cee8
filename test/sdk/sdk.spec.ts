import { IndeterminateError, NotExecutedError } from 'nestjs-idempotency';
import { CLIENTS, type Client, type ClientResult } from './clients.js';
import { PLATFORMS, startProviderApp, type ProviderApp } from './provider-app.js';

describe.each(PLATFORMS)('on %s', (platform) => {
  let app: ProviderApp;
  let nextKey = 1;

  beforeAll(async () => {
    app = await startProviderApp(platform);
  });

  afterAll(() => app?.close());

  beforeEach(() => {
    app.work.runs.length = app.work.plans.length = app.seen.length = 0;
    app.store.heal();
  });

  describe.each(CLIENTS)('the stock client $name', (client: Client) => {
    let key: string;

    beforeEach(() => {
      key = `key-${nextKey++}`;
    });

    function errorOf(result: Promise<ClientResult>): Promise<unknown> {
      return result.then(
        (value) => {
          throw new Error(`resolved with ${JSON.stringify(value)}`);
        },
        (error: unknown) => error,
      );
    }

    it('gets one run for a call, and the replay for the same call again', async () => {
      expect(await client.call(app, { key })).toEqual({ id: 'run_1', replayed: false });
      expect(await client.call(app, { key })).toEqual({ id: 'run_1', replayed: true });
      expect(app.work.runs).toHaveLength(1);
      expect(app.work.runs[0]!.key).toBe(key);
    });

    it('gets the answer of the only run when the connection is lost in the middle', async () => {
      app.work.plans.push((request) => void request.socket.destroy());
      expect(await client.call(app, { key, maxRetries: 4 })).toEqual({ id: 'run_1', replayed: true });
      expect(app.work.runs).toHaveLength(1);
      expect(app.seen.length).toBeGreaterThan(1);
      expect(new Set(app.seen.map((request) => request.key))).toEqual(new Set([key]));
    });

    it('is run again when the handler says that it has not been executed', async () => {
      app.work.plans.push(() => {
        throw new NotExecutedError('The provider was busy.');
      });
      expect(await client.call(app, { key })).toEqual({ id: 'run_2', replayed: false });
      expect(app.seen.map(({ status }) => status)).toEqual([503, 200]);
      const [first, second] = app.work.runs;
      expect([first!.attempt, second!.attempt]).toEqual([1, 2]);
      expect(second!.downstreamKey('charge')).toBe(first!.downstreamKey('charge'));
    });

    it('asks again while the first one runs, and ends with its answer', async () => {
      let finish = (): void => undefined;
      app.work.plans.push(() => new Promise((resolve) => (finish = resolve)));
      const first = client.call(app, { key });
      void app.answered(409).then(() => finish());
      await until(() => app.work.runs.length === 1);
      const second = await client.call(app, { key, maxRetries: 5 });
      expect(second).toEqual({ id: 'run_1', replayed: true });
      expect(await first).toEqual({ id: 'run_1', replayed: false });
      expect(app.work.runs).toHaveLength(1);
      const conflicts = app.seen.filter(({ status }) => status === 409);
      expect(conflicts.length).toBeGreaterThan(0);
      if (client.heedsRetryAfter) {
        // The lease is 2 s, so the server says 1 or 2; without its hint these clients come back after half a second.
        const replay = app.seen.at(-1)!;
        expect(replay.at - conflicts.at(-1)!.at).toBeGreaterThan(950);
      }
    });

    it('throws for a key that belongs to another request, and does not retry', async () => {
      await client.call(app, { key, input: 1 });
      const error = await errorOf(client.call(app, { key, input: 2 }));
      expect(error).toBeInstanceOf(client.errors[422]);
      expect(client.statusOf(error)).toBe(422);
      expect(JSON.stringify(error) + String(error)).toContain('another request');
      expect(app.seen.map(({ status }) => status)).toEqual([200, 422]);
      expect(await client.call(app, { key, input: 1 })).toEqual({ id: 'run_1', replayed: true });
    });

    it('throws for a key that is none, and does not retry', async () => {
      const error = await errorOf(client.call(app, { key: 'k'.repeat(256) }));
      expect(error).toBeInstanceOf(client.errors[400]);
      expect(client.statusOf(error)).toBe(400);
      expect(app.seen.map(({ status }) => status)).toEqual([400]);
      expect(app.work.runs).toEqual([]);
    });

    it('throws when the outcome is not known, after one run', async () => {
      app.work.plans.push(() => {
        throw new IndeterminateError('The provider did not answer.');
      });
      const error = await errorOf(client.call(app, { key, maxRetries: 0 }));
      expect(error).toBeInstanceOf(client.errors[409]);
      expect(client.statusOf(error)).toBe(409);
      expect(app.work.runs).toHaveLength(1);
      app.seen.length = 0;
      expect(client.statusOf(await errorOf(client.call(app, { key })))).toBe(409);
      if (client.heedsShouldRetry) expect(app.seen).toHaveLength(1);
      expect(app.work.runs).toHaveLength(1);
    });

    it('comes back when the store was away', async () => {
      app.store.on('claim').fail(1);
      expect(await client.call(app, { key })).toEqual({ id: 'run_1', replayed: false });
      expect(app.seen.map(({ status }) => status)).toEqual([503, 200]);
      if (client.heedsRetryAfter) expect(app.seen[1]!.at - app.seen[0]!.at).toBeGreaterThan(950);
    });

    it('throws when the store stays away; nothing has run', async () => {
      app.store.on('claim').fail();
      expect(client.statusOf(await errorOf(client.call(app, { key, maxRetries: 0 })))).toBe(503);
      expect(app.work.runs).toEqual([]);
    });

    if (client.makesKeys) {
      it('makes a key for each call, the same for its retries', async () => {
        app.work.plans.push((request) => void request.socket.destroy());
        const first = await client.call(app, { maxRetries: 4 });
        expect(first).toEqual({ id: 'run_1', replayed: true });
        expect(await client.call(app, {})).toEqual({ id: 'run_2', replayed: false });
        expect(new Set(app.seen.map((request) => request.key)).size).toBe(2);
      });
    } else {
      it('throws without a key, and does not retry', async () => {
        const error = await errorOf(client.call(app, {}));
        expect(error).toBeInstanceOf(client.errors[400]);
        expect(String(error)).toContain('Idempotency-Key');
        expect(app.seen.map(({ status }) => status)).toEqual([400]);
        expect(app.work.runs).toEqual([]);
      });
    }
  });

  it('shows OpenAI clients code, type and parameter of an error', async () => {
    const [openai] = CLIENTS;
    await expect(openai!.call(app, {})).rejects.toMatchObject({
      ...{ status: 400, code: 'idempotency_key_missing', type: 'idempotency_error', param: 'Idempotency-Key' },
    });
  });
});

/** Polls for at most ten seconds. */
async function until(holds: () => boolean): Promise<void> {
  const end = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error('It did not come to that within ten seconds.');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
