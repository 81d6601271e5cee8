// Builds the library twice (Nest 12 is ESM only, Jest users of Nest 11 can only `require`) and the sample app.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const path = (name) => `${root}${name}`;

rmSync(path('dist'), { recursive: true, force: true });
// Without the sample app there is only the library to build.
const projects = existsSync(path('sample-app/src/main.ts')) ? ['--all'] : ['lib', 'lib-cjs'];
const nest = path('node_modules/@nestjs/cli/bin/nest.js');
const { status } = spawnSync(process.execPath, [nest, 'build', ...projects], { cwd: root, stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

// The package is `"type": "module"`; this half of it is not.
writeFileSync(path('dist/cjs/package.json'), `${JSON.stringify({ type: 'commonjs' })}\n`);

// For people who run their migrations as plain SQL.
const migrations = path('lib/stores/typeorm/migrations');
const scripts = existsSync(migrations) ? readdirSync(migrations).filter((name) => name.endsWith('.sql')) : [];
mkdirSync(path('dist/sql'), { recursive: true });
for (const script of scripts) cpSync(`${migrations}/${script}`, path(`dist/sql/${script}`));
