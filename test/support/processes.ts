import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { guard } from '../../sample-app/src/embedded-postgres.ts';
import { argumentsToRun } from './compiled-sources.ts';

export interface FixtureOptions {
  env?: Record<string, string | undefined>;
  args?: string[];
  /** How long it may take to say that it is ready, in milliseconds. */
  readyTimeout?: number;
}

export interface FixtureExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Fixture {
  readonly port: number;
  readonly url: string;
  readonly pid: number;
  /** For messages in both directions: `child.send`, `child.on('message')`. */
  readonly child: ChildProcess;
  /** All that it has printed so far, both streams. */
  readonly output: string;
  readonly exited: Promise<FixtureExit>;
  /** SIGKILL by default; SIGSTOP and SIGCONT freeze and thaw it. */
  kill(signal?: NodeJS.Signals): void;
  /** SIGTERM, and SIGKILL for one that does not go within five seconds. */
  stop(): Promise<FixtureExit>;
}

const running = new Set<Fixture>();
// What a failed test left behind ends with its file.
if (typeof afterAll === 'function') afterAll(stopFixtures);

/**
 * Runs a TypeScript file in a process of its own and waits until it says that it is ready: a line
 * of JSON with a `port` on its standard output, or the same object by `process.send`.
 */
export async function spawnFixture(file: string | URL, options: FixtureOptions = {}): Promise<Fixture> {
  const path = file instanceof URL || file.startsWith('file:') ? fileURLToPath(file) : file;
  const child = spawn(process.execPath, [...argumentsToRun(path), ...(options.args ?? [])], {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const endGuard = guard({ pid: child.pid });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const exited = new Promise<FixtureExit>((done) => {
    child.once('exit', (code, signal) => {
      endGuard();
      running.delete(fixture);
      done({ code, signal });
    });
  });
  const fixture: Fixture = {
    port: 0,
    url: '',
    pid: child.pid ?? 0,
    child,
    get output() {
      return output;
    },
    exited,
    kill: (signal = 'SIGKILL') => void child.kill(signal),
    async stop() {
      child.kill('SIGCONT');
      child.kill('SIGTERM');
      const impatience = setTimeout(() => child.kill('SIGKILL'), 5000);
      return exited.finally(() => clearTimeout(impatience));
    },
  };
  running.add(fixture);
  const port = await untilReady(child, fixture, options.readyTimeout ?? 30_000);
  return Object.assign(fixture, { port, url: `http://127.0.0.1:${port}` });
}

export async function stopFixtures(): Promise<void> {
  await Promise.all([...running].map((fixture) => fixture.stop()));
}

async function untilReady(child: ChildProcess, fixture: Fixture, timeout: number): Promise<number> {
  let look = (): void => undefined;
  let timer: NodeJS.Timeout | undefined;
  const ready = new Promise<number>((done, failed) => {
    const fail = (what: string): void => failed(new Error(`${what}\n${fixture.output}`));
    look = () => {
      const port = portIn(fixture.output);
      if (port !== undefined) done(port);
    };
    timer = setTimeout(() => fail('The fixture was not ready in time'), timeout);
    child.stdout?.on('data', look);
    child.on('message', (message) => {
      const port = portOf(message);
      if (port !== undefined) done(port);
    });
    child.once('error', failed);
    void fixture.exited.then(({ code, signal }) => fail(`The fixture ended before it was ready (${signal ?? code})`));
  });
  try {
    return await ready;
  } catch (error) {
    fixture.kill();
    throw error;
  } finally {
    clearTimeout(timer);
    child.stdout?.off('data', look);
  }
}

function portIn(output: string): number | undefined {
  for (const line of output.split('\n')) {
    if (!line.startsWith('{')) continue;
    try {
      const port = portOf(JSON.parse(line));
      if (port !== undefined) return port;
    } catch {
      // A line of the application's own, or one that has not come in full.
    }
  }
  return undefined;
}

function portOf(message: unknown): number | undefined {
  const port = (message as { port?: unknown } | null)?.port;
  return typeof port === 'number' ? port : undefined;
}
