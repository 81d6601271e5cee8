import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, guard } from '../../sample-app/src/embedded-postgres.ts';

export interface Broker {
  readonly url: string;
  /** Ends it and removes its data; nothing for one that was given by its URL. */
  stop(): Promise<void>;
}

/** Debian's program on the path only switches users for this one; elsewhere that on the path is it. */
const DEBIAN_RABBITMQ = '/usr/lib/rabbitmq/bin/rabbitmq-server';
const rabbitMqProgram = existsSync(DEBIAN_RABBITMQ) ? DEBIAN_RABBITMQ : 'rabbitmq-server';

export const hasRabbitMq = (): boolean => Boolean(process.env.RABBITMQ_URL) || isOnPath(rabbitMqProgram);
export const hasNats = (): boolean => Boolean(process.env.NATS_URL) || isOnPath('nats-server');

/** The RabbitMQ of `RABBITMQ_URL`, else one of its own: its own node, port mapper and data. */
export async function startRabbitMq(): Promise<Broker> {
  if (process.env.RABBITMQ_URL) return { url: process.env.RABBITMQ_URL, stop: () => Promise.resolve() };
  const dir = await mkdtemp(join(tmpdir(), 'idempotency-rabbitmq-'));
  const [port, distribution, mapper] = [await freePort(), await freePort(), await freePort()];
  const [none, pidFile] = [join(dir, 'none'), join(dir, 'pid')];
  const env = {
    ...process.env,
    HOME: dir,
    RABBITMQ_NODENAME: `idempotency-${port}@localhost`,
    RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
    RABBITMQ_NODE_PORT: String(port),
    RABBITMQ_DIST_PORT: String(distribution),
    ERL_EPMD_PORT: String(mapper),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_MNESIA_BASE: join(dir, 'data'),
    RABBITMQ_LOG_BASE: join(dir, 'log'),
    RABBITMQ_LOGS: join(dir, 'server.log'),
    RABBITMQ_PID_FILE: pidFile,
    RABBITMQ_ENABLED_PLUGINS_FILE: none,
    RABBITMQ_CONF_ENV_FILE: none,
    RABBITMQ_CONFIG_FILE: none,
    // One scheduler that does not spin: the machine has other things to do.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none',
  };
  const server = await launch(rabbitMqProgram, [], {
    port,
    dir,
    env,
    log: 'server.log',
    pidFile,
    greets: 'AMQP\0\0\x09\x01',
  });
  return {
    url: `amqp://guest:guest@127.0.0.1:${port}`,
    async stop() {
      await server.end();
      // The port mapper that the node has started outlives it.
      if (isOnPath('epmd', ['-names'], env)) execFileSync('epmd', ['-kill'], { env, stdio: 'ignore' });
      await server.remove();
    },
  };
}

/** The NATS of `NATS_URL`, else one of its own. */
export async function startNats(): Promise<Broker> {
  if (process.env.NATS_URL) return { url: process.env.NATS_URL, stop: () => Promise.resolve() };
  const dir = await mkdtemp(join(tmpdir(), 'idempotency-nats-'));
  const port = await freePort();
  const args = ['-a', '127.0.0.1', '-p', String(port), '-l', join(dir, 'server.log')];
  const server = await launch('nats-server', args, { port, dir, env: process.env, log: 'server.log' });
  return {
    url: `nats://127.0.0.1:${port}`,
    async stop() {
      await server.end();
      await server.remove();
    },
  };
}

interface Launch {
  readonly port: number;
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;
  readonly log: string;
  /** Where the server writes its process id, if the program is a script around it. */
  readonly pidFile?: string;
  /** What a client says first; a server that does not answer it is not up yet. Absent: the server speaks first. */
  readonly greets?: string;
}

async function launch(
  program: string,
  args: string[],
  { port, dir, env, log, greets, pidFile }: Launch,
): Promise<{ end(): Promise<void>; remove(): Promise<void> }> {
  // A group of its own: the program may be a script around the server.
  const child = spawn(program, args, { env, stdio: 'ignore', detached: true });
  const endGuard = guard({ pid: child.pid, pidFile, remove: dir });
  const exited = once(child, 'exit').catch(() => undefined);
  const until = Date.now() + 60_000;
  while (!(await answers(port, greets))) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined || Date.now() > until) {
      const text = await readFile(join(dir, log), 'utf8').catch(() => '');
      endGroup(child, 'SIGKILL');
      throw new Error(`${program} did not start\n${text.slice(-2000)}`);
    }
    await sleep(100);
  }
  child.unref();
  return {
    async end() {
      endGroup(child, 'SIGTERM');
      const impatience = setTimeout(() => endGroup(child, 'SIGKILL'), 10_000);
      await exited;
      clearTimeout(impatience);
      endGuard();
    },
    remove: () => rm(dir, { recursive: true, force: true, maxRetries: 5 }),
  };
}

function endGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // It is gone already.
  }
}

function answers(port: number, greets: string | undefined): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1', () => greets !== undefined && socket.write(greets, 'latin1'));
    socket.setTimeout(1000, () => socket.destroy());
    socket.once('data', () => {
      done(true);
      socket.destroy();
    });
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
  });
}

function isOnPath(program: string, args: string[] = ['--version'], env: NodeJS.ProcessEnv = process.env): boolean {
  if (program.startsWith('/')) return existsSync(program);
  try {
    execFileSync(program, args, { env, stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}
