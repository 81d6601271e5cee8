import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { createTestDatabase } from '../support/postgres.js';
import { hasRedis } from '../support/redis-server.js';
import { ensureBuilt, install, isOffline, pack, root, temporaryDirectory, type Consumer } from './consumer.js';

const run = promisify(execFile);
const optional = ['typeorm', 'pg', 'ioredis', 'redis', '@nestjs/typeorm', '@nestjs/microservices'];
const optionalAtOthers = ['@nestjs/swagger', '@opentelemetry/api'];

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

type Application = {
  store: 'memory' | 'typeorm' | 'redis';
  nest: string;
  type: 'module' | 'commonjs';
  drivers: Record<string, string>;
  module: Record<string, unknown>;
};

const node10 = { module: 'commonjs', moduleResolution: 'node10', esModuleInterop: true, ignoreDeprecations: '6.0' };
const bundler = { module: 'commonjs', moduleResolution: 'bundler' };
const nodenext = { module: 'nodenext' };

/**
 * Both ends of the peer ranges, both module systems, and each way in which TypeScript finds the types.
 * Of `redis` and `ioredis` any version may be installed beside the package, because nothing imports them: a range
 * would conflict with that of older TypeORM versions, in applications that use neither.
 */
const applications: Application[] = [
  { store: 'memory', nest: '12.5.1', type: 'module', drivers: {}, module: nodenext },
  { store: 'memory', nest: '11.2.10', type: 'commonjs', drivers: {}, module: bundler },
  {
    store: 'typeorm',
    nest: '12.5.1',
    type: 'module',
    drivers: { '@nestjs/typeorm': '12.0.2', typeorm: '1.1.1', pg: '8.23.1', '@nestjs/microservices': '12.1.1' },
    module: nodenext,
  },
  {
    store: 'typeorm',
    nest: '11.0.0',
    type: 'commonjs',
    drivers: { '@nestjs/typeorm': '11.0.0', typeorm: '0.3.20', pg: '8.11.0', '@nestjs/microservices': '11.0.0' },
    module: node10,
  },
  {
    store: 'redis',
    nest: '12.5.1',
    type: 'commonjs',
    drivers: { ioredis: '6.0.0', redis: '6.3.1' },
    module: nodenext,
  },
  {
    store: 'redis',
    nest: '11.0.0',
    type: 'commonjs',
    drivers: { ioredis: '5.3.0', redis: '5.0.0' },
    module: node10,
  },
];

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
    'works on Nest $nest in a $type application with the $store store',
    async (application) => {
      if (application.store === 'redis' && !hasRedis()) return notRun(application, 'there is no Redis');
      const consumer = await installOrSaySo(application);
      if (!consumer) return;
      const unasked = optional.filter((name) => !(name in application.drivers));
      expect((await consumer.installed()).filter((name) => unasked.includes(name))).toEqual([]);

      const { store, nest, type, module } = application;
      const hasMessages = '@nestjs/microservices' in application.drivers;
      await consumer.compile(['orders.ts', `${store}-app.ts`, ...(hasMessages ? ['messages-app.ts'] : [])], module);
      const database = await createTestDatabase(`package.spec ${nest} ${type}`);
      const printed = await consumer.run(`${store}-app.js`, {
        DATABASE_URL: database.url,
        PREFIX: `package.spec:${nest}:${process.pid}:`,
      });
      await database.drop();
      const answers = [
        { status: 201, replayed: null, body: { order: 1 } },
        { status: 201, replayed: 'true', body: { order: 1 } },
        { status: 201, replayed: null, body: { order: 2 } },
      ];
      expect(JSON.parse(printed)).toEqual(store === 'redis' ? [answers, answers] : [answers]);
      if (!hasMessages) return;
      const created = (id: string, order: number) => ({ id, order });
      const replies = [created('a', 1), created('a', 1), created('b', 2)];
      expect(JSON.parse(await consumer.run('messages-app.js', {}))).toEqual(replies);
    },
    300_000,
  );

  async function installOrSaySo(application: Application): Promise<Consumer | undefined> {
    const names = ['@nestjs/common', '@nestjs/core', '@nestjs/platform-express'];
    const nest = Object.fromEntries(names.map((name) => [name, application.nest]));
    const always = { 'reflect-metadata': '0.2.2', rxjs: '7.8.2' };
    try {
      const consumer = await install(tarball, application.type, { ...nest, ...always, ...application.drivers });
      consumers.push(consumer);
      return consumer;
    } catch (error) {
      if (!isOffline(error)) throw error;
      return notRun(application, 'the npm registry cannot be reached');
    }
  }

  function notRun({ nest, store }: Application, reason: string): undefined {
    console.warn(`NOT RUN, because ${reason}: the package on Nest ${nest} with the ${store} store`);
    return undefined;
  }
});
