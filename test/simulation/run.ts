import { describeFinding, exploreAll, exploreRandom, runSeed, type Explored } from './explore.js';
import { anything, pairs } from './scenarios.js';

/**
 * node --import ./test/support/register.mjs test/simulation/run.ts [--exhaustive] [--random N] [--seed S]
 *
 * The engine as it is, against the model of the store, in every order of steps. Says how many
 * schedules it tried; a schedule that breaks a promise is printed, and the exit code is 1 then.
 * `--seed` without `--random` repeats one random schedule, with it the first of so many.
 */
const args = process.argv.slice(2);
const numberAfter = (name: string): number | undefined =>
  args.includes(name) ? Number(args[args.indexOf(name) + 1]) : undefined;

function report({ findings }: Explored): void {
  if (findings.length === 0) return;
  console.log(findings.map(describeFinding).join('\n\n'));
  process.exit(1);
}

const [count, seed] = [numberAfter('--random'), numberAfter('--seed')];

if (args.includes('--exhaustive')) {
  let total = 0;
  const started = Date.now();
  for (const mode of ['block', 'rerun'] as const) {
    for (const scenario of pairs(mode)) {
      const explored = await exploreAll(scenario);
      total += explored.schedules;
      console.log(`${mode}: ${scenario.name}: ${explored.schedules} schedules`);
      report(explored);
    }
  }
  const seconds = Math.round((Date.now() - started) / 1_000);
  console.log(`exhaustive: ${total} schedules of two requests in ${seconds} s, every one there is`);
}

if (count !== undefined) {
  // Another first seed each time, so that every run tries new schedules.
  const first = seed ?? Math.floor(Math.random() * 2 ** 31);
  const explored = await exploreRandom(count, first, anything);
  report(explored);
  console.log(`random: ${explored.schedules} schedules of three to five requests, from SEED=${first}`);
} else if (seed !== undefined) {
  const finding = await runSeed(seed, anything);
  console.log(describeFinding(finding));
  if (finding.violations.length > 0) process.exit(1);
}
