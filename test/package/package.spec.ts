import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ensureBuilt, install, isOffline, pack, root, temporaryDirectory, type Consumer } from './consumer.js';

const run = promisify(execFile);
const optional = ['typeorm', 'pg', 'ioredis', 'redis', '@nestjs/typeorm'];
const optionalAtOthers = ['@nestjs/swagger', '@nestjs/microservices', '@opentelemetry/api'];

beforeAll(ensureBuilt, 120_000);

/** Names that every entry has to export. */
const entries: Record<string, string[]> = {
  'nestjs-idempotency': ['IdempotencyModule', 'Idempotent', 'IdempotencyContext', 'IdempotencyService', 'memoryStore'],
  'nestjs-idempotency/typeorm': ['typeormStore'],
  'nestjs-idempotency/redis': ['redisStore'],
  'nestjs-idempotency/testing': ['describeStoreContract'],
};

describe.each(Object.entries(entries))('%s', (entry, names) => {
  const print = `console.log(JSON.stringify(Object.keys(entry)))`;

  async function namesFrom(...flags: string[]): Promise<string[]> {
    // From the repository the package's own name leads through its `exports`, as it does for others.
    const { stdout } = await run(process.execPath, flags, { cwd: root });
    return JSON.parse(stdout) as string[];
  }

  it('can be imported', async () => {
    const script = `import * as entry from '${entry}'; ${print}`;
    expect(await namesFrom('--input-type=module', '-e', script)).toEqual(expect.arrayContaining(names));
  });

  it('can be required', async () => {
    const script = `const entry = require('${entry}'); ${print}`;
    expect(await namesFrom('--input-type=commonjs', '-e', script)).toEqual(expect.arrayContaining(names));
  });
});

describe('the declarations of the main entry', () => {
  it.each(['esm', 'cjs'])('mention no optional package (%s)', async (format) => {
    const seen = new Set<string>();
    const packages = new Set<string>();
    const follow = async (file: string): Promise<void> => {
      if (seen.has(file)) return;
      seen.add(file);
      const text = await readFile(file, 'utf8');
      for (const [, specifier] of text.matchAll(/(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g)) {
        if (!specifier!.startsWith('.')) packages.add(specifier!);
        else await follow(join(dirname(file), specifier!.replace(/\.js$/, '.d.ts')));
      }
    };
    await follow(join(root, 'dist', format, 'index.d.ts'));
    expect(seen.size).toBeGreaterThan(5);
    expect([...packages].filter((name) => [...optional, ...optionalAtOthers].includes(name))).toEqual([]);
  });
});

/** One of each: the newest of both majors, and the oldest that the peer range allows. */
const applications = [
  { nest: '12.5.1', type: 'module', module: { module: 'nodenext' } },
  { nest: '12.5.1', type: 'commonjs', module: { module: 'nodenext' } },
  { nest: '11.2.10', type: 'commonjs', module: { module: 'commonjs', moduleResolution: 'bundler' } },
  { nest: '11.0.0', type: 'commonjs', module: { module: 'commonjs', ...node10() } },
] as const;

function node10(): Record<string, unknown> {
  return { moduleResolution: 'node10', esModuleInterop: true, ignoreDeprecations: '6.0' };
}

describe('the packed package', () => {
  let tarballs: string;
  let tarball: string;
  const consumers: Consumer[] = [];

  beforeAll(async () => {
    tarballs = await temporaryDirectory();
    tarball = await pack(tarballs);
  }, 120_000);

  afterAll(async () => {
    await Promise.all(consumers.map((consumer) => consumer.remove()));
    await rm(tarballs, { recursive: true, force: true });
  });

  it.each(applications)(
    'works in a $type application on Nest $nest that has nothing else installed',
    async ({ nest, type, module }) => {
      const consumer = await installOrSaySo(type, nest);
      if (!consumer) return;
      expect((await consumer.installed()).filter((name) => optional.includes(name))).toEqual([]);
      await consumer.compile(module);
      const answers = JSON.parse(await consumer.run('app.js')) as unknown[];
      expect(answers).toEqual([
        { status: 201, replayed: null, body: { order: 1 } },
        { status: 201, replayed: 'true', body: { order: 1 } },
        { status: 201, replayed: null, body: { order: 2 } },
      ]);
    },
    180_000,
  );

  async function installOrSaySo(type: 'module' | 'commonjs', nest: string): Promise<Consumer | undefined> {
    const names = ['@nestjs/common', '@nestjs/core', '@nestjs/platform-express'];
    const dependencies = Object.fromEntries(names.map((name) => [name, nest]));
    try {
      const consumer = await install(tarball, type, { ...dependencies, 'reflect-metadata': '0.2.2', rxjs: '7.8.2' });
      consumers.push(consumer);
      return consumer;
    } catch (error) {
      if (!isOffline(error)) throw error;
      console.warn(`NOT RUN: the npm registry cannot be reached, so Nest ${nest} (${type}) was not tried.`);
      return undefined;
    }
  }
});
