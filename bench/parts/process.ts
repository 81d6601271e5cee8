import { spawnFixture, type Fixture } from '../../test/support/processes.js';
import type { Reply } from '../server/control.js';
import type { Adapter, ServerSettings, StoreName } from '../server/settings.js';

const BOOT_MS = 60_000;

/** A process of the bench, and the questions that it answers. */
export class BenchProcess {
  private asked = 0;

  private constructor(private readonly fixture: Fixture) {}

  static async start(file: string, settings?: ServerSettings): Promise<BenchProcess> {
    const env = { NODE_ENV: 'production', ...(settings && { BENCH_SERVER: JSON.stringify(settings) }) };
    const path = new URL(`../${file}`, import.meta.url);
    return new BenchProcess(await spawnFixture(path, { env, readyTimeout: BOOT_MS }));
  }

  get url(): string {
    return this.fixture.url;
  }

  ask<T>(ask: string, about?: unknown): Promise<T> {
    const id = (this.asked += 1);
    const { child } = this.fixture;
    return new Promise<T>((resolve, reject) => {
      const hear = (reply: Reply): void => {
        if (reply.id !== id) return;
        child.off('message', hear);
        if (reply.error === undefined) resolve(reply.value as T);
        else reject(new Error(`${ask}: ${reply.error}`));
      };
      child.on('message', hear);
      void this.fixture.exited.then(() =>
        reject(new Error(`A process of the bench has ended\n${this.fixture.output}`)),
      );
      child.send({ id, ask, about });
    });
  }

  async stop(): Promise<void> {
    await this.fixture.stop();
  }
}

export interface Servers {
  readonly postgresUrl: string;
  /** Undefined where there is no redis-server. */
  readonly redisUrl: string | undefined;
}

/** A server with this library, or without it (`none`). */
export function startServer(
  adapter: Adapter,
  store: StoreName,
  { postgresUrl, redisUrl }: Servers,
  retention: ServerSettings['retention'] = '24h',
): Promise<BenchProcess> {
  return BenchProcess.start('server/main.ts', { adapter, store, postgresUrl, redisUrl, retention });
}

/** A server of the peer's, or the bare handler on the peer's Nest. */
export function startPeer(adapter: Adapter, store: 'none' | 'redis', servers: Servers): Promise<BenchProcess> {
  return BenchProcess.start('peer/main.ts', { adapter, store, ...servers, retention: '24h' });
}
