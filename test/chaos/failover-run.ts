import { parseArgs } from 'node:util';
import { hasRedisServer } from '../support/redis-process.js';
import { runFailover } from './failover.js';
import { interruption } from './interruption.js';

/**
 * npm run chaos:failover -- [--rounds N] [--seed S]
 *
 * What a failover of Redis costs: a line for each setting says what was seen. Losses are no failure, for
 * nothing else is promised. Exit code 2: it could not be tried.
 */
const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' } },
});
const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
if (!(rounds > 0) || !Number.isInteger(seed) || !hasRedisServer()) {
  console.error('chaos:failover: [--rounds N] [--seed S], and a redis-server on the PATH');
  process.exit(2);
}

const SETTINGS = [
  { lagMs: 0, minReplicas: 0 },
  { lagMs: 50, minReplicas: 0 },
  { lagMs: 50, minReplicas: 1 },
] as const;

const signal = interruption();
// Servers are children that keep no process alive.
const alive = setInterval(() => undefined, 1_000);
for (const setting of SETTINGS) {
  if (signal.aborted) break;
  try {
    const { failovers, acknowledged, lost, secondRuns } = await runFailover({ ...setting, rounds, seed, signal });
    console.log(
      `chaos:failover redis, replica ${setting.lagMs} ms behind, minReplicas ${setting.minReplicas}: ${failovers} failovers, ` +
        `${acknowledged} acknowledged completions, ${lost} of them lost, ${secondRuns} second runs`,
    );
  } catch (error) {
    if (!signal.aborted) console.error(error);
    process.exitCode = 2;
  }
}
clearInterval(alive);
process.exit(signal.aborted ? 130 : process.exitCode);
