import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, guard } from '../../sample-app/src/embedded-postgres.ts';

export interface RedisServerOptions {
  port?: number;
  /** Further arguments of `redis-server`; they win over the defaults. */
  args?: string[];
  /** Kept after the stop. Default: a temporary directory. */
  dir?: string;
}

export interface RedisServer {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  pause(): void;
  resume(): void;
  /** Starts again on the same directory and port, after a stop if it still runs. */
  restart(): Promise<void>;
}

const running = new Set<RedisServer>();
// What a failed test left behind ends with its file.
if (typeof afterAll === 'function') afterAll(() => Promise.all([...running].map((server) => server.stop())));

/** Whether this machine can start a Redis of its own. */
export function hasRedisServer(): boolean {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'idempotency-redis-')));
  const temporary = options.dir === undefined ? dir : undefined;
  const port = options.port ?? (await freePort());
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--logfile', join(dir, 'redis.log')];
  args.push('--save', '', '--appendonly', 'yes', '--appendfsync', 'everysec', ...(options.args ?? []));
  let process = await launch(args, port, dir, temporary);

  const end = async (signal: NodeJS.Signals): Promise<void> => {
    process.child.kill('SIGCONT');
    process.child.kill(signal);
    await process.exited;
    process.endGuard();
  };
  const server: RedisServer = {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return process.child.pid ?? 0;
    },
    async stop() {
      running.delete(server);
      await end('SIGTERM');
      if (temporary) await rm(temporary, { recursive: true, force: true });
    },
    kill: () => end('SIGKILL'),
    pause: () => void process.child.kill('SIGSTOP'),
    resume: () => void process.child.kill('SIGCONT'),
    async restart() {
      await end('SIGTERM');
      process = await launch(args, port, dir, temporary);
    },
  };
  running.add(server);
  return server;
}

interface Launched {
  child: ChildProcess;
  exited: Promise<void>;
  endGuard: () => void;
}

async function launch(args: string[], port: number, dir: string, temporary: string | undefined): Promise<Launched> {
  const child = spawn('redis-server', args, { stdio: 'ignore', detached: true });
  let failure: Error | undefined;
  const exited = new Promise<void>((done) => {
    child.once('error', (error) => {
      failure = error;
      done();
    });
    child.once('exit', () => {
      failure ??= new Error('redis-server stopped');
      done();
    });
  });
  const endGuard = guard({ pid: child.pid, remove: temporary });
  while (!(await answersPing(port))) {
    if (failure) {
      const log = await readFile(join(dir, 'redis.log'), 'utf8').catch(() => '');
      throw new Error(`${failure.message}\n${log.slice(-2000)}`);
    }
    await sleep(20);
  }
  child.unref();
  return { child, exited, endGuard };
}

/** `LOADING …` while it reads its append-only file is not yet an answer. */
function answersPing(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.setTimeout(1000, () => socket.destroy());
    socket.once('data', (data) => {
      done(data.toString().startsWith('+PONG'));
      socket.destroy();
    });
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
  });
}
