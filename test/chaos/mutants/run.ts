import { parseArgs } from 'node:util';
import { hasRedisServer } from '../../support/redis-process.js';
import { runChaos } from '../chaos.js';
import { interruption } from '../interruption.js';
import type { Violation } from '../checker/history.js';
import { STREAM_MUTANTS, type StreamMutant } from '../streams/mutants.js';
import { runStreamChaos } from '../streams/stream-chaos.js';
import { MUTANTS } from './all.js';
import type { Mutant } from './mutant.js';

/**
 * npm run chaos:mutants -- [--only TEXT] [--seed S]
 *
 * Plants each bug in the library and runs the chaos that has to notice it. First the same runs without
 * a bug, in which nothing may be found. Exit code 1: a bug survived, or something was found where there
 * is none; 2: some could not be tried.
 */
const { values } = parseArgs({
  options: {
    /** Only the bugs whose name, store or mode holds this. */
    only: { type: 'string', default: '' },
    seed: { type: 'string', default: '1' },
  },
});

const FIRST_SECONDS = 6;
/** Chance has a part in most of them: what is not found is looked for again, twice as long each time. */
const MOST_TRIES = 3;
/** Two processes start sooner than four, and are enough to be in each other's way. */
const APPS = 2;
const READERS = 8;

interface Verdict {
  readonly word: 'caught' | 'survived' | 'nothing found' | 'FOUND' | 'left out' | 'failed';
  readonly rules?: readonly string[];
  readonly error?: unknown;
}

const WITHOUT_A_BUG = [
  ['redis', 'block'],
  ['postgres', 'block'],
  ['postgres', 'transaction'],
] as const;
const NO_BUG: readonly Mutant[] = WITHOUT_A_BUG.map(([store, mode]) => ({
  name: 'no bug',
  ...{ store, mode, edits: [], caughtBy: [], crash: 0.005, cut: 0.02 },
  faults: ['app_kill', 'app_stop', 'clock', 'proxy_delay', 'proxy_drop_replies', 'proxy_refuse', 'store_kill'],
}));

/** A bug, and how the run is made that has to notice it. */
interface Planted extends Pick<Mutant, 'name' | 'store' | 'caughtBy'> {
  readonly mode: string;
  run(seconds: number, seed: number): Promise<{ readonly violations: readonly Violation[] }>;
}

function inRequests({ name, store, mode, faults, edits, prepare, crash = 0, cut = 0, caughtBy }: Mutant): Planted {
  const how = { store, mode, faults, edits, crash, cut, signal, apps: APPS, ...(prepare && { prepare }) };
  return { name, store, mode, caughtBy, run: (seconds, seed) => runChaos({ ...how, seconds, seed }) };
}

function inStreams({ name, store, mode, faults, edits, crash, cut, caughtBy }: StreamMutant): Planted {
  const how = { store, mode, faults, edits, crash, cut, signal, apps: APPS, readers: READERS };
  const run: Planted['run'] = (seconds, seed) => runStreamChaos({ ...how, seconds, seed });
  return { name, store, mode: `stream-${mode}`, caughtBy, run };
}

const signal = interruption();
const seed = Number(values.seed);
const chosen = [...MUTANTS.map(inRequests), ...STREAM_MUTANTS.map(inStreams)].filter(({ name, store, mode }) =>
  `${name} (${store}, ${mode})`.includes(values.only),
);
if (chosen.length === 0 || !Number.isInteger(seed)) {
  console.error('chaos:mutants: [--only TEXT of a name, store or mode] [--seed S]');
  process.exit(2);
}
const redis = hasRedisServer();
if (!redis) console.error('chaos:mutants: there is no redis-server on the PATH: what needs one is left out.');

const began = performance.now();
const verdicts: Verdict[] = [];
for (const planted of [...NO_BUG.map(inRequests), ...chosen]) {
  if (signal.aborted) break;
  const from = performance.now();
  const verdict = await judge(planted);
  verdicts.push(verdict);
  const seconds = ((performance.now() - from) / 1_000).toFixed(0);
  const rules = verdict.rules && verdict.rules.length > 0 ? ` by ${verdict.rules.join(', ')}` : '';
  console.log(`${planted.name} (${planted.store}, ${planted.mode}) → ${verdict.word}${rules} [${seconds} s]`);
  if (verdict.error !== undefined && !signal.aborted) console.error(verdict.error);
}

async function judge({ store, caughtBy, run }: Planted): Promise<Verdict> {
  if (store === 'redis' && !redis) return { word: 'left out' };
  const isReal = caughtBy.length > 0;
  let rules: string[] = [];
  for (let tries = 0; tries < (isReal ? MOST_TRIES : 1); tries++) {
    const seconds = FIRST_SECONDS * 2 ** tries;
    try {
      const { violations } = await run(seconds, seed + tries);
      rules = [...new Set(violations.map(({ invariant }) => invariant))].sort();
    } catch (error) {
      return { word: 'failed', error };
    }
    if (!isReal) return { word: rules.length === 0 ? 'nothing found' : 'FOUND', rules };
    if (caughtBy.some((rule) => rules.includes(rule))) return { word: 'caught', rules };
  }
  return { word: 'survived', rules };
}

const count = (word: Verdict['word']): number => verdicts.filter((verdict) => verdict.word === word).length;
const minutes = ((performance.now() - began) / 60_000).toFixed(1);
console.log(
  `chaos:mutants: ${count('caught')} of ${chosen.length} caught, ${count('survived')} survived, ` +
    `${count('FOUND')} runs without a bug in which something was found, ` +
    `${count('left out') + count('failed')} not tried, ${minutes} minutes`,
);
const isBad = count('survived') + count('FOUND') > 0;
process.exit(signal.aborted ? 130 : isBad ? 1 : count('left out') + count('failed') > 0 ? 2 : 0);
