import { spawn, type ChildProcess } from 'node:child_process';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { guard, startEmbeddedPostgres, type EmbeddedPostgres } from '../embedded-postgres.js';

/** One process of the application. */
export interface Instance {
  readonly url: string;
  readonly pid: number;
  /** SIGTERM; resolves with the exit code once it has gone. */
  stop(): Promise<number | null>;
  /** SIGKILL: no handler, no goodbye. */
  kill(): Promise<void>;
}

const READY_WITHIN_MS = 30_000;
const STOPPED_WITHIN_MS = 10_000;

// Compiled or not: the application's entry file lies next to the demo's and is run in the same way.
const MAIN = fileURLToPath(new URL(`../main${extname(import.meta.url)}`, import.meta.url));

/** The database and the processes of the demo, and their end. */
export class Stage {
  private postgres: Promise<EmbeddedPostgres> | undefined;
  private readonly children = new Map<ChildProcess, Promise<number | null>>();
  private output = '';
  private closed = false;

  async databaseUrl(): Promise<string> {
    // Even where DATABASE_URL is set: the demo's tables and customers have no business in it.
    this.postgres ??= startEmbeddedPostgres();
    return (await this.postgres).url;
  }

  async startInstance(settings: Record<string, string>): Promise<Instance> {
    const databaseUrl = await this.databaseUrl();
    if (this.closed) throw new Error('The demo is over.');
    const env = { ...process.env, DATABASE_URL: databaseUrl, PORT: '0', MODEL_BASE_URL: '', ...settings };
    const child = spawn(process.execPath, [...process.execArgv, MAIN], {
      env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const endGuard = guard({ pid: child.pid });
    this.output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output = (this.output + text).slice(-20_000)));
    }
    const exited = new Promise<number | null>((resolve) => {
      child.once('exit', (code) => {
        endGuard();
        this.children.delete(child);
        resolve(code);
      });
    });
    this.children.set(child, exited);
    const port = await portOf(child);
    return {
      url: `http://127.0.0.1:${port}`,
      pid: child.pid ?? 0,
      stop: () => stop(child, exited),
      async kill() {
        child.kill('SIGKILL');
        await exited;
      },
    };
  }

  /** What the latest process has printed, for the case that something went wrong. */
  latestOutput(): string {
    return this.output;
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([...this.children].map(([child, exited]) => stop(child, exited)));
    // If it never started there is nothing to stop, and its error has been reported already.
    const postgres = await this.postgres?.catch(() => undefined);
    await postgres?.stop();
  }
}

/** The application tells its parent when it listens. */
async function portOf(child: ChildProcess): Promise<number> {
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<number>((resolve, reject) => {
      timer = setTimeout(() => reject(new Error('The application did not start in time.')), READY_WITHIN_MS);
      child.once('message', (message) => resolve((message as { port: number }).port));
      child.once('error', reject);
      child.once('exit', () => reject(new Error('The application ended while it was starting.')));
    });
  } finally {
    clearTimeout(timer);
  }
}

function stop(child: ChildProcess, exited: Promise<number | null>): Promise<number | null> {
  child.kill('SIGTERM');
  const impatience = setTimeout(() => child.kill('SIGKILL'), STOPPED_WITHIN_MS);
  return exited.finally(() => clearTimeout(impatience));
}
