import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, readFile, readlink, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasRedisServer } from '../support/redis-process.js';
import { plan } from './nemesis.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const caches = join(root, 'node_modules/.cache');
/** Kills, cuts and frozen stores: for a machine that has other things to do. */
const PATIENCE_MS = 120_000;

interface Run {
  readonly child: ChildProcess;
  readonly output: string;
  readonly exited: Promise<number | null>;
}

/** `npm run chaos` with a directory of its own for all that it makes. */
function chaos(directory: string, args: readonly string[], env: Record<string, string> = {}): Run {
  const parameters = ['--import', join(root, 'test/support/register.mjs'), join(root, 'test/chaos/run.ts'), ...args];
  const child = spawn(process.execPath, parameters, {
    cwd: root,
    env: { ...process.env, TMPDIR: directory, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  return {
    child,
    exited,
    get output() {
      return output;
    },
  };
}

async function until(what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error(`It did not come to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Processes that were started with this directory as their temporary one, or that work in it. */
async function processesOf(directory: string): Promise<string[]> {
  if (!existsSync('/proc/self/environ')) return [];
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const traces = await Promise.all(
    pids.map(async (pid) => {
      const files = ['environ', 'cmdline'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => ''));
      return [...(await Promise.all(files)), await readlink(`/proc/${pid}/cwd`).catch(() => '')].join(' ');
    }),
  );
  return traces.filter((trace) => trace.includes(directory));
}

const builds = async (): Promise<string[]> =>
  (await readdir(caches).catch(() => [])).filter((name) => name.startsWith('chaos-'));

describe('npm run chaos', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'chaos-run-'));
    // Postgres runs as another user where root starts it.
    await chmod(directory, 0o755);
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it(
    'leaves no process and no file when it is interrupted',
    async () => {
      const before = await builds();
      const store = hasRedisServer() ? 'redis' : 'postgres';
      const run = chaos(directory, ['--store', store, '--mode', 'block', '--seconds', '600', '--seed', '1']);
      await until('the run begins', () => run.output.includes('load and faults') || run.child.exitCode !== null);
      if (existsSync('/proc/self/environ')) expect((await processesOf(directory)).length).toBeGreaterThan(5);
      run.child.kill('SIGINT');
      expect([await run.exited, run.output]).toEqual([130, expect.stringContaining('SIGINT: stopping everything')]);
      await until('all processes are gone', async () => (await processesOf(directory)).length === 0);
      await until('all files are gone', async () => (await readdir(directory)).length === 0);
      expect((await builds()).filter((name) => !before.includes(name))).toEqual([]);
    },
    PATIENCE_MS,
  );

  it(
    'without redis-server says so, runs the rest, and ends with one line of what it found',
    async () => {
      // What the clean-up of the test servers needs, and no redis-server.
      for (const program of ['head', 'rm', 'sleep']) await symlink(await pathOf(program), join(directory, program));
      const args = ['--store', 'all', '--mode', 'rerun', '--seconds', '2', '--seed', '3', '--out', directory];
      const run = chaos(directory, args, { PATH: directory });
      expect([await run.exited, run.output]).toEqual([2, expect.stringContaining('no redis-server on the PATH')]);
      // That line is an error's, and the two outputs of a process arrive in no certain order.
      const lines = run.output
        .trimEnd()
        .split('\n')
        .filter((line) => !line.includes('no redis-server'));
      expect(lines.at(-2)).toMatch(/^chaos postgres rerun 2 s seed 3: PASSED, \d+ requests/);
      expect(lines.at(-1)).toMatch(/^chaos: FAILED, 1 of 1 runs passed, 1 could not be made, \d+ requests/);
      const numbers = JSON.parse(await readFile(join(directory, 'numbers-3.json'), 'utf8')) as object[];
      expect(numbers).toEqual([expect.objectContaining({ store: 'postgres', mode: 'rerun', passed: true })]);
      expect(await readdir(directory)).toContain('postgres-rerun-3.jsonl');
    },
    PATIENCE_MS,
  );

  it('refuses what it does not know', async () => {
    const wrong = [['--store', 'mysql'], ['--mode', 'often'], ['--seconds', '0'], ['--seed', 'x'], ['--nothing']];
    expect(await Promise.all(wrong.map((args) => chaos(directory, args).exited))).toEqual(wrong.map(() => 2));
  });

  it('says why there are no transactions on Redis', async () => {
    const run = chaos(directory, ['--store', 'redis', '--mode', 'transaction']);
    expect([await run.exited, run.output]).toEqual([2, expect.stringContaining('cannot be committed together')]);
  });

  it('has the same plan for the same seed', () => {
    expect(plan(7, 60, 4, 1_000)).toEqual(plan(7, 60, 4, 1_000));
    expect(plan(7, 60, 4, 1_000)).not.toEqual(plan(8, 60, 4, 1_000));
    expect(plan(7, 60, 4, 1_000).length).toBeGreaterThan(60);
  });
});

function pathOf(program: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('/bin/sh', ['-c', `command -v ${program}`], (error, path) => {
      if (error) reject(error);
      else resolve(path.trim());
    });
  });
}
