import { execFile, spawn } from 'node:child_process';
import { cp, mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../', import.meta.url));
const bench = join(root, 'bench');

/** Installs what is missing, and puts the package into it as a user would get it. */
export async function prepare(say: (text: string) => void): Promise<void> {
  await install(bench, say);
  await install(join(bench, 'peer'), say);
  if (await isStale()) {
    say('building the package');
    await npm(root, ['run', 'build']);
  }
  await putPackage(join(bench, 'node_modules', 'nestjs-idempotency'));
}

async function install(folder: string, say: (text: string) => void): Promise<void> {
  const lock = await readFile(join(folder, 'package-lock.json'), 'utf8');
  const mark = join(folder, 'node_modules', '.bench-installed');
  if ((await readFile(mark, 'utf8').catch(() => '')) === lock) return;
  say(`installing the packages of ${folder.slice(root.length)}`);
  await npm(folder, ['ci', '--no-audit', '--no-fund', '--ignore-scripts']);
  await writeFile(mark, lock);
}

/** Whether a source is newer than what was built from it. */
async function isStale(): Promise<boolean> {
  const built = await stat(join(root, 'dist/esm/index.js')).catch(() => undefined);
  if (!built) return true;
  const sources = await readdir(join(root, 'lib'), { recursive: true });
  const times = await Promise.all(sources.map(async (name) => (await stat(join(root, 'lib', name))).mtimeMs));
  return times.some((time) => time > built.mtimeMs);
}

/** The files that `npm publish` would send. A link would do for Node, but find this project's Nest instead of the bench's. */
async function putPackage(to: string): Promise<void> {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    maxBuffer: 2 ** 26,
    shell: process.platform === 'win32',
  });
  const packed = JSON.parse(stdout) as unknown;
  // A list in some versions of npm, by package name in others.
  const [first] = Object.values(packed as Record<string, { files: { path: string }[] }>);
  await rm(to, { recursive: true, force: true });
  for (const { path } of first!.files) {
    await mkdir(dirname(join(to, path)), { recursive: true });
    await cp(join(root, path), join(to, path));
  }
}

/** Its output goes to standard error: standard output is for the figures. */
async function npm(cwd: string, args: readonly string[]): Promise<void> {
  const child = spawn('npm', args, {
    cwd,
    stdio: ['ignore', process.stderr, 'inherit'],
    shell: process.platform === 'win32',
  });
  const code = await new Promise<number | null>((done, failed) => child.once('error', failed).once('exit', done));
  if (code !== 0) throw new Error(`npm ${args.join(' ')} in ${cwd} ended with ${code}`);
}
