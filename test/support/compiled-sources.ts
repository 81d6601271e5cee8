import { transform } from '@swc/core';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
// @ts-expect-error: a loader's hooks are JavaScript
import { options } from './typescript-hooks.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
// Within the project, so that packages are found from there.
const trees = join(root, 'node_modules/.cache/compiled-sources');
const SOURCES = ['lib', 'sample-app/src', 'test'];
// No run of the tests takes as long.
const OLD_MS = 3 * 60 * 60 * 1000;

/** What the package's own name leads to. */
const manifest = {
  name: 'nestjs-idempotency',
  type: 'module',
  exports: {
    '.': './lib/index.js',
    './typeorm': './lib/stores/typeorm/index.js',
    './redis': './lib/stores/redis/index.js',
    './testing': './lib/testing/index.js',
  },
};

/**
 * The library, the sample and the tests' programs as plain JavaScript, once for a run of the tests: loader
 * hooks take longer than all else at the start of a process, and some tests start dozens. Its directory,
 * which is named after what it was made from and used again until that changes.
 */
export async function compileSources(): Promise<string> {
  const lists = await Promise.all(SOURCES.map((source) => readdir(join(root, source), { recursive: true })));
  const files = lists
    .flatMap((list, i) => list.map((name) => join(SOURCES[i]!, name)))
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.spec.ts'))
    .sort();
  const texts = await Promise.all(files.map((file) => readFile(join(root, file), 'utf8')));
  const madeFrom = createHash('sha256').update(JSON.stringify([options, manifest, root, files, texts]));
  const tree = join(trees, madeFrom.digest('hex').slice(0, 32));
  if (existsSync(tree)) {
    await utimes(tree, new Date(), new Date());
    return tree;
  }

  // Two runs may compile at once: neither may use what the other has half written.
  const draft = `${tree}.${process.pid}`;
  await mkdir(draft, { recursive: true });
  await writeFile(join(draft, 'package.json'), JSON.stringify(manifest));
  await Promise.all(files.map((file, i) => compile(file, texts[i]!, draft)));
  await rename(draft, tree).catch(() => rm(draft, { recursive: true, force: true }));
  await removeOld();
  return tree;
}

async function compile(file: string, source: string, into: string): Promise<void> {
  const path = join(root, file);
  const { code } = await transform(source, { ...options, filename: path, sourceFileName: pathToFileURL(path).href });
  const target = join(into, file.replace(/\.ts$/, '.js'));
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, code);
}

/** What no run has begun with for hours: a tree is 5 MB, and each change of a source makes another one. */
async function removeOld(): Promise<void> {
  for (const name of await readdir(trees)) {
    const tree = join(trees, name);
    const { mtimeMs } = await stat(tree).catch(() => ({ mtimeMs: Infinity }));
    if (Date.now() - mtimeMs > OLD_MS) await rm(tree, { recursive: true, force: true });
  }
}

/** How Node is told to run a TypeScript file of the project: compiled, where this run of the tests has compiled it. */
export function argumentsToRun(path: string): string[] {
  const tree = process.env.COMPILED_SOURCES;
  const compiled = tree && join(tree, relative(root, path).replace(/\.ts$/, '.js'));
  const support = (file: string): string => new URL(file, import.meta.url).href;
  return compiled && existsSync(compiled)
    ? ['--enable-source-maps', '--import', support('./ends-with-parent.mjs'), compiled]
    : ['--enable-source-maps', '--import', support('./register.mjs'), path];
}
