import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
export const root = fileURLToPath(new URL('../../', import.meta.url));

/** `npm test` has built by now; a run of Jest alone may find an older build, or none. */
export async function ensureBuilt(): Promise<void> {
  const built = await stat(join(root, 'dist/cjs/package.json')).catch(() => undefined);
  if (built && built.mtimeMs > (await newestChange(join(root, 'lib')))) return;
  await run(process.execPath, ['scripts/build.mjs'], { cwd: root });
}

async function newestChange(directory: string): Promise<number> {
  const names = await readdir(directory, { recursive: true });
  const stats = await Promise.all(names.map((name) => stat(join(directory, name))));
  return Math.max(...stats.map(({ mtimeMs }) => mtimeMs));
}

export async function temporaryDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'idempotency-package-'));
}

/** The tarball that `npm publish` would upload. */
export async function pack(into: string): Promise<string> {
  const { stdout } = await npm(root, 'pack', '--json', '--ignore-scripts', '--pack-destination', into);
  const [packed] = JSON.parse(stdout) as [{ filename: string }];
  return join(into, packed.filename);
}

export interface Consumer {
  /** Names in its node_modules, scoped ones as `@scope/name`. */
  installed(): Promise<string[]>;
  /** Compiles these files of `fixtures` against what is installed there. */
  compile(files: string[], compilerOptions: Record<string, unknown>): Promise<void>;
  /** Runs a compiled file; what it printed. */
  run(file: string, env: Record<string, string>): Promise<string>;
  remove(): Promise<void>;
}

/** An application of somebody else: a directory far from ours, with the package installed by npm. */
export async function install(
  tarball: string,
  type: 'module' | 'commonjs',
  dependencies: Record<string, string>,
): Promise<Consumer> {
  const directory = await temporaryDirectory();
  const manifest = { name: 'consumer', private: true, type, dependencies: { ...dependencies, [ownName]: tarball } };
  await writeFile(join(directory, 'package.json'), JSON.stringify(manifest));
  await npm(
    directory,
    'install',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    '--ignore-scripts',
    '--no-package-lock',
  );
  return {
    installed: () => namesIn(join(directory, 'node_modules')),
    async compile(files, compilerOptions) {
      await Promise.all(files.map((file) => copyFile(join(fixtures, file), join(directory, file))));
      // The types of Node are those of the repository, so that the consumer has none but its own packages.
      const base = { ...strict, typeRoots: [join(root, 'node_modules/@types')], types: ['node'], rootDir: '.' };
      const tsconfig = { compilerOptions: { ...base, ...compilerOptions }, files };
      await writeFile(join(directory, 'tsconfig.json'), JSON.stringify(tsconfig));
      await output(directory, [join(root, 'node_modules/typescript/bin/tsc')]);
    },
    run: (file, env) => output(directory, [file], env),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

const fixtures = join(root, 'test/package/fixtures');
const ownName = 'nestjs-idempotency';
const strict = {
  strict: true,
  target: 'es2022',
  experimentalDecorators: true,
  emitDecoratorMetadata: true,
  skipLibCheck: true,
};

async function namesIn(modules: string): Promise<string[]> {
  const names = await readdir(modules);
  const scoped = names.filter((name) => name.startsWith('@'));
  const inScopes = scoped.map(async (scope) => (await readdir(join(modules, scope))).map((name) => `${scope}/${name}`));
  return [...names, ...(await Promise.all(inScopes)).flat()];
}

async function npm(cwd: string, ...args: string[]): Promise<{ stdout: string }> {
  // Variables of the npm that runs the tests would make this one believe that it works for the repository.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_(package|lifecycle)_/.test(name)),
  );
  return run('npm', args, { cwd, env, maxBuffer: 1 << 26, shell: process.platform === 'win32' });
}

/** Runs Node on a file, and fails with what it printed; a process that does not end by itself is a failure too. */
async function output(cwd: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  try {
    const options = { cwd, timeout: 60_000, env: { ...process.env, ...env } };
    const { stdout, stderr } = await run(process.execPath, args, options);
    return stdout + stderr;
  } catch (error) {
    const { message, stdout, stderr } = error as Error & { stdout: string; stderr: string };
    throw new Error([message, stdout, stderr].join('\n'), { cause: error });
  }
}

/** Whether npm failed for want of a network, and not for a fault of ours. */
export function isOffline(error: unknown): boolean {
  const codes = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH)\b/;
  return error instanceof Error && codes.test(error.message);
}
