import { Agent } from 'node:http';
import type { RecordView } from 'nestjs-idempotency';
import { send, type Answer } from '../../e2e/support/http-client.js';
import { spawnFixture, type Fixture } from '../../support/processes.js';
import type { FixtureConfig } from '../fixtures/config.js';
import { codeOf } from './answers.js';
import { BOOT_MS, headersOf } from './applications.js';

const file = new URL('../fixtures/work-app.ts', import.meta.url);

/** How long an answer may take to be final: a lease of 5 s, on a busy machine. */
const PATIENCE_MS = 60_000;

/** A process of the application that is held at named points. */
export class Worker {
  private readonly agent = new Agent({ keepAlive: true });

  private constructor(readonly process: Fixture) {}

  static async start(config: FixtureConfig): Promise<Worker> {
    return new Worker(await spawnFixture(file, { env: { FIXTURE: JSON.stringify(config) }, readyTimeout: BOOT_MS }));
  }

  /** The key goes as the header, and in the body for what has no header. */
  post(path: string, key: string, body: object = {}): Promise<Answer> {
    const { agent } = this;
    return send(`${this.process.url}/${path}`, { headers: headersOf({ key }), body: { key, ...body }, agent });
  }

  /** Asks until the answer is another than "later": a claim may also be lost where the machine is very busy. */
  async untilDecided(path: string, key: string, body?: object): Promise<Answer> {
    for (const until = Date.now() + PATIENCE_MS; ;) {
      const answer = await this.post(path, key, body);
      const code = codeOf(answer);
      if (code !== 'idempotency_in_progress' && code !== 'idempotency_store_unavailable') return answer;
      if (Date.now() > until) throw new Error(`${key} is still in progress after ${PATIENCE_MS} ms`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async find(operation: string, key: string): Promise<RecordView | undefined> {
    const answer = await send(`${this.process.url}/find`, { body: { operation, key } });
    return answer.json<{ record: RecordView | null }>().record ?? undefined;
  }

  async kill(): Promise<void> {
    this.process.kill();
    await this.process.exited;
    this.agent.destroy();
  }
}
