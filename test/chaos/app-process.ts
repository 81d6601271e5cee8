import { spawn, type ChildProcess } from 'node:child_process';
import { guard } from '../../sample-app/src/embedded-postgres.ts';

/** A running application, or the ledger. */
export interface AppProcess {
  readonly port: number;
  readonly child: ChildProcess;
  /** What it has printed so far. */
  readonly output: string;
  readonly exited: Promise<void>;
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM, and SIGKILL for one that does not go. */
  stop(): Promise<void>;
}

const READY_MS = 30_000;
const PATIENCE_MS = 5_000;

/** Starts a built file and waits until it sends its port; rejects when it ends before that. */
export async function startProcess(
  file: string,
  env: Record<string, string>,
  args: string[] = [],
): Promise<AppProcess> {
  const child = spawn(process.execPath, [file, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const endGuard = guard({ pid: child.pid });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream!.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => {
      endGuard();
      resolve();
    });
  });
  const port = await new Promise<number>((resolve, reject) => {
    const fail = (what: string): void => reject(new Error(`${what}\n${output}`));
    const timer = setTimeout(() => child.kill('SIGKILL'), READY_MS);
    child.on('message', (message: { port?: number }) => {
      if (message.port === undefined) return;
      clearTimeout(timer);
      resolve(message.port);
    });
    child.once('error', (error) => fail(error.message));
    void exited.then(() => {
      clearTimeout(timer);
      fail('It ended before it was ready.');
    });
  });
  return {
    port,
    child,
    exited,
    get output() {
      return output;
    },
    kill: (signal) => void child.kill(signal),
    async stop() {
      child.kill('SIGCONT');
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
      await exited;
      clearTimeout(timer);
    },
  };
}
