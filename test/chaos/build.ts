import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform, type Options } from '@swc/core';
import { guard } from '../../sample-app/src/embedded-postgres.ts';

/** A change of the library's source: a bug that is planted to see whether it is found. */
export interface Edit {
  /** From the project's root. */
  readonly file: string;
  /** Text that is there exactly once. */
  readonly find: string;
  readonly put: string;
}

export interface Build {
  /** Where a source file went: `test/chaos/app/main.ts`, say. */
  path(file: string): string;
  remove(): Promise<void>;
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const SOURCES = ['lib', 'test/chaos', 'test/simulation'];
const OPTIONS: Options = {
  jsc: {
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    target: 'es2022',
    keepClassNames: true,
  },
  module: { type: 'es6' },
  swcrc: false,
};

/**
 * The library and the applications as plain JavaScript in a directory of their own, so that a process
 * which is killed every few seconds need not compile anything when it starts again. The edits are made
 * on the way.
 */
export async function build(edits: readonly Edit[] = []): Promise<Build> {
  // Within the project, so that packages are found from there.
  const caches = join(root, 'node_modules/.cache');
  await mkdir(caches, { recursive: true });
  const directory = await mkdtemp(join(caches, 'chaos-'));
  const endGuard = guard({ remove: directory });
  // The package by its own name is the one that has just been built.
  const manifest = {
    name: 'nestjs-idempotency',
    type: 'module',
    exports: {
      '.': './lib/index.js',
      './typeorm': './lib/stores/typeorm/index.js',
      './redis': './lib/stores/redis/index.js',
    },
  };
  await writeFile(join(directory, 'package.json'), JSON.stringify(manifest));
  const lists = await Promise.all(SOURCES.map((source) => readdir(join(root, source), { recursive: true })));
  const files = lists.flatMap((list, i) => list.map((name) => join(SOURCES[i]!, name)));
  const sources = files.filter((file) => file.endsWith('.ts') && !file.endsWith('.spec.ts'));
  await Promise.all(sources.map((file) => compile(file, edits, directory)));
  return {
    path: (file) => join(directory, file.replace(/\.ts$/, '.js')),
    async remove() {
      await rm(directory, { recursive: true, force: true });
      endGuard();
    },
  };
}

async function compile(file: string, edits: readonly Edit[], directory: string): Promise<void> {
  const source = edits.filter((edit) => edit.file === file).reduce(applyEdit, await readFile(join(root, file), 'utf8'));
  const { code } = await transform(source, { ...OPTIONS, filename: file });
  const target = join(directory, file.replace(/\.ts$/, '.js'));
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, code);
}

export function applyEdit(source: string, { file, find, put }: Edit): string {
  const pieces = source.split(find);
  if (pieces.length !== 2) throw new Error(`${file} holds this ${pieces.length - 1} times, not once: ${find}`);
  return pieces.join(put);
}
