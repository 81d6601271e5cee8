import { Agent } from 'node:http';
import type { RecordName, RecordView, Settlement } from 'nestjs-idempotency';
import { send, type Answer } from '../../e2e/support/http-client.js';
import { spawnFixture, type Fixture } from '../../support/processes.js';
import type { FixtureConfig, JobAnswer, Stats } from '../fixtures/config.js';
import type { Desk } from './desk.js';

type Settings = Partial<FixtureConfig> & Pick<FixtureConfig, 'store'>;

export interface JobRequest {
  readonly key: string;
  readonly scope?: string;
  readonly body?: unknown;
}

/** A busy machine starts several at once. */
export const BOOT_MS = 90_000;

const app = new URL('../fixtures/app.ts', import.meta.url);

/** One application process. */
export class Application {
  private readonly agent = new Agent({ keepAlive: true });

  private constructor(
    readonly process: Fixture,
    readonly config: FixtureConfig,
  ) {}

  static async start(config: FixtureConfig): Promise<Application> {
    const env = { FIXTURE: JSON.stringify(config) };
    return new Application(await spawnFixture(app, { env, readyTimeout: BOOT_MS }), config);
  }

  job(route: string, { key, scope, body = { amount: 100 } }: JobRequest): Promise<Answer> {
    return send(this.urlOf(route), { headers: headersOf({ key, scope }), body, agent: this.agent });
  }

  urlOf(route: string): string {
    return `${this.process.url}/jobs/${route}`;
  }

  async find(route: string, key: string): Promise<RecordView | undefined> {
    const { record } = await this.ask<{ record: RecordView | null }>('find', { name: nameOf(route, key) });
    return record ?? undefined;
  }

  async resolve(route: string, key: string, settlement: Settlement): Promise<boolean> {
    const { resolved } = await this.ask<{ resolved: boolean }>('resolve', { name: nameOf(route, key), settlement });
    return resolved;
  }

  async forget(route: string, key: string): Promise<boolean> {
    return (await this.ask<{ forgotten: boolean }>('forget', { name: nameOf(route, key) })).forgotten;
  }

  /** When each answer to a request with this key left the application. */
  async answeredAt(key: string): Promise<number[]> {
    return (await this.ask<{ answeredAt: number[] }>('answers', { key })).answeredAt;
  }

  async stats(): Promise<Stats> {
    return (await send(`${this.process.url}/stats`, { method: 'GET', agent: this.agent })).json<Stats>();
  }

  private async ask<T>(path: string, body: object): Promise<T> {
    const answer = await send(`${this.process.url}/${path}`, { body });
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${answer.text}`);
    return answer.json<T>();
  }
}

/** Several application processes on the same records, Express and Fastify by turns. */
export class Applications {
  private constructor(readonly all: Application[]) {}

  static async start(count: number, desk: Desk, settings: Settings): Promise<Applications> {
    const all = { desk: desk.url, ...settings };
    // Of an odd number, Postgres gets one more on Express and Redis one more on Fastify.
    const first = settings.store.kind === 'redis' ? 1 : 0;
    const configs = Array.from({ length: count }, (_, index) => configOf(all, index + first));
    return new Applications(await Promise.all(configs.map((config) => Application.start(config))));
  }

  get length(): number {
    return this.all.length;
  }

  /** Counted around: the one after the last is the first. */
  at(index: number): Application {
    return this.all[index % this.all.length]!;
  }

  /** Sends one request `count` times at once, dealt out over the processes. */
  jobs(count: number, route: string, request: JobRequest): Promise<Answer[]> {
    return Promise.all(Array.from({ length: count }, (_, index) => this.at(index).job(route, request)));
  }

  /** Kills the process, and puts a new one in its place. */
  async replace(killed: Application, changes: Partial<FixtureConfig> = {}): Promise<Application> {
    killed.process.kill();
    await killed.process.exited;
    const next = await Application.start({ ...killed.config, ...changes });
    this.all[this.all.indexOf(killed)] = next;
    return next;
  }

  async close(): Promise<void> {
    await Promise.all(
      this.all.map(({ process }) => {
        process.kill();
        return process.exited;
      }),
    );
  }
}

export function headersOf({ key, scope }: { key: string; scope?: string | undefined }): Record<string, string> {
  return {
    // Bare where that is possible, else in quotes: an RFC 9651 String.
    'idempotency-key': /[ ",;\\]/.test(key) ? `"${key.replace(/[\\"]/g, '\\$&')}"` : key,
    ...(scope === undefined ? {} : { 'x-tenant': Buffer.from(scope).toString('base64url') }),
  };
}

/** The body of a job that has run. */
export function jobOf(answer: Answer): JobAnswer {
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
  return answer.json<JobAnswer>();
}

function configOf(settings: Settings & { readonly desk: string }, index: number): FixtureConfig {
  return { adapter: index % 2 === 0 ? 'express' : 'fastify', ...settings };
}

function nameOf(route: string, key: string): RecordName {
  return { operation: `POST /jobs/${route}`, scope: 'nobody', key };
}
