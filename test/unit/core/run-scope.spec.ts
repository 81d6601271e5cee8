import { execFile } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { IdempotencyRunContext } from '../../../lib/core/context.js';
import { currentRun, currentScope, runWithin, stayInside, withScope } from '../../../lib/core/run-scope.js';

const contextOf = (key: string): IdempotencyRunContext => ({ key }) as IdempotencyRunContext;

it('is known in the whole call chain of a run, and of no other', async () => {
  const seen = await Promise.all(
    ['a', 'b'].map((key) =>
      runWithin({ context: contextOf(key) }, async () => {
        await pause(1);
        return currentRun()?.key;
      }),
    ),
  );
  expect(seen).toEqual(['a', 'b']);
  expect(currentRun()).toBeUndefined();
});

it('outlives the end of a shorter run beside it', async () => {
  const long = runWithin({ context: contextOf('long') }, async () => {
    await pause(30);
    return currentRun()?.key;
  });
  await runWithin({ context: contextOf('short') }, () => pause(5));
  await expect(long).resolves.toBe('long');
});

it('is known for as long as its owner stays inside, however many runs end meanwhile', async () => {
  const leave = stayInside();
  const later = withScope({ context: contextOf('waiting') }, async () => {
    await pause(20);
    return currentScope()?.context?.key;
  });
  for (let i = 0; i < 3; i += 1) await runWithin({ context: contextOf('other') }, () => pause(1));
  await expect(later).resolves.toBe('waiting');
  leave();
});

it('an end that is told twice counts once', async () => {
  const outer = stayInside();
  const inner = stayInside();
  inner();
  inner();
  await expect(
    withScope({ context: contextOf('still') }, async () => (await pause(1), currentRun()?.key)),
  ).resolves.toBe('still');
  outer();
});

it('a run within a run ends without taking the outer one along', async () => {
  const seen = await runWithin({ context: contextOf('outer') }, async () => {
    const inner = await runWithin({ context: contextOf('inner') }, async () => (await pause(1), currentRun()?.key));
    await pause(1);
    return [inner, currentRun()?.key];
  });
  expect(seen).toEqual(['inner', 'outer']);
});

it('costs the promises of the process nothing while no run is under way', async () => {
  // In a process of its own: Jest watches promises for reasons of its own.
  const fixture = fileURLToPath(new URL('./fixtures/watched-promises.ts', import.meta.url));
  const hooks = new URL('../../support/register.mjs', import.meta.url).href;
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', hooks, fixture]);
  // Node 24 keeps the scope without watching them.
  const during = Number(process.versions.node.split('.')[0]) < 24;
  expect(JSON.parse(stdout)).toEqual({ before: false, during, afterTheEnd: false, afterAThrow: false });
});
