import { spawn, type ChildProcess } from 'node:child_process';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { guard } from '../../sample-app/src/embedded-postgres.js';
import { argumentsToRun } from '../support/compiled-sources.js';
import { describeRedis, redisUrl } from '../support/redis-server.js';

const demo = fileURLToPath(new URL('../../sample-app/src/demo.ts', import.meta.url));

/** About a minute on its own; more where other tests want the same cores. They wait more than they work, so all run at once. */
const PATIENCE_MS = 180_000;

describe('npm run demo', () => {
  it.concurrent('tells the whole story with records in Postgres', () => expectGoodEnd({ REDIS_URL: '' }), PATIENCE_MS);

  it.concurrent(
    'leaves no process and no directory behind when it is interrupted',
    async () => {
      const home = await newHome();
      const run = runDemo({ REDIS_URL: '', TMPDIR: home });
      while (!run.output().includes('\n1. ')) {
        expect(run.child.exitCode).toBeNull();
        await pause(50);
      }
      run.child.kill('SIGTERM');
      expect(await run.exitCode).toBe(143);
      expect(await readdir(home)).toEqual([]);
      await rm(home, { recursive: true });
    },
    PATIENCE_MS,
  );
});

describeRedis('npm run demo with REDIS_URL', () => {
  it.concurrent(
    'tells the whole story with records in Redis',
    () => expectGoodEnd({ REDIS_URL: redisUrl() }),
    PATIENCE_MS,
  );
});

async function expectGoodEnd(env: Record<string, string>): Promise<void> {
  const home = await newHome();
  const run = runDemo({ ...env, TMPDIR: home });
  const exitCode = await run.exitCode;
  if (exitCode !== 0) throw new Error(`The demo ended with ${exitCode}:\n${run.output()}`);
  expect(run.output()).toContain('All steps went as promised (27 steps');
  expect(run.output()).toContain(`Idempotency records live in ${env.REDIS_URL ? 'Redis' : 'Postgres'}`);
  expect(await readdir(home)).toEqual([]);
  await rm(home, { recursive: true });
}

/** A temporary directory of its own, to see what is left in it. Postgres may run as another user. */
async function newHome(): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'demo-spec-'));
  await chmod(home, 0o777);
  return home;
}

function runDemo(env: Record<string, string>): {
  readonly child: ChildProcess;
  readonly exitCode: Promise<number | null>;
  output(): string;
} {
  const child = spawn(process.execPath, argumentsToRun(demo), {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const endGuard = guard({ pid: child.pid });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const exitCode = new Promise<number | null>((done) => {
    child.once('close', (code) => {
      endGuard();
      done(code);
    });
  });
  return { child, exitCode, output: () => output };
}
