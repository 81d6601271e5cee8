// Loader hooks: what jest.config.mjs does for specs (decorators, metadata, the package's own name), for plain Node.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = new URL('../../', import.meta.url);
const bench = new URL('bench/', root).href;
const cache = new URL('node_modules/.cache/typescript-fixtures/', root);
const sources = {
  'nestjs-idempotency': 'lib/index.ts',
  'nestjs-idempotency/typeorm': 'lib/stores/typeorm/index.ts',
  'nestjs-idempotency/redis': 'lib/stores/redis/index.ts',
  'nestjs-idempotency/testing': 'lib/testing/index.ts',
};
/** How sources are compiled, for whoever runs them. */
export const options = {
  jsc: {
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    target: 'es2022',
    keepClassNames: true,
    rewriteRelativeImportExtensions: true,
  },
  module: { type: 'es6' },
  sourceMaps: 'inline',
  swcrc: false,
};

export async function resolve(specifier, context, next) {
  // The bench measures the package as it is built, from its own node_modules.
  const own = context.parentURL?.startsWith(bench) ? undefined : sources[specifier];
  if (own) return { url: new URL(own, root).href, shortCircuit: true };
  const fromTypeScript = context.parentURL?.endsWith('.ts');
  if (fromTypeScript && /^\.{1,2}\/.*\.js$/.test(specifier)) {
    const url = new URL(specifier.replace(/\.js$/, '.ts'), context.parentURL);
    if (existsSync(url)) return { url: url.href, shortCircuit: true };
  }
  return next(specifier, context);
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context);
  const path = fileURLToPath(url);
  const source = await readFile(path, 'utf8');
  return { format: 'module', source: await transformed(path, source), shortCircuit: true };
}

/** Compiling costs more than all else at a fixture's start, so the result is kept by what it was made from. */
async function transformed(path, source) {
  const key = createHash('sha256')
    .update(JSON.stringify([options, process.version, path, source]))
    .digest('hex');
  const file = new URL(`${key}.mjs`, cache);
  if (existsSync(file)) return readFile(file, 'utf8');
  const { transformSync } = await import('@swc/core');
  const { code } = transformSync(source, { ...options, filename: path, sourceFileName: pathToFileURL(path).href });
  await mkdir(cache, { recursive: true });
  // Two fixtures may compile the same file at once: neither may read what the other has half written.
  const draft = new URL(`${key}.${process.pid}.tmp`, cache);
  await writeFile(draft, code);
  await rename(draft, file);
  return code;
}
