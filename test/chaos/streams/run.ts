import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { hasRedisServer } from '../../support/redis-process.js';
import { STREAM_RULES } from './check.js';
import { STREAM_MUTANTS } from './mutants.js';
import { runStreamChaos } from './stream-chaos.js';

/**
 * npm run chaos:streams -- --store postgres|redis|all --mode block|rerun|all --seconds N --seed S [--out DIR]
 * npm run chaos:streams -- --mutants [--only TEXT]
 *
 * Exit code 1: a promise was broken, a window was never hit, or a planted bug survived; 2: a run could not be made.
 */
const { values } = parseArgs({
  options: {
    store: { type: 'string', default: 'all' },
    mode: { type: 'string', default: 'all' },
    seconds: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1_000_000)) },
    out: { type: 'string', default: join(tmpdir(), 'idempotency-chaos-histories') },
    mutants: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
  },
});
const STORES = ['postgres', 'redis'] as const;
const MODES = ['block', 'rerun'] as const;
const stores = STORES.filter((store) => values.store === 'all' || values.store === store);
const modes = MODES.filter((mode) => values.mode === 'all' || values.mode === mode);
const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
if (stores.length === 0 || modes.length === 0 || !(seconds > 0) || !Number.isInteger(seed)) {
  console.error('chaos:streams: --store postgres|redis|all --mode block|rerun|all --seconds N --seed S | --mutants');
  process.exit(2);
}

const interrupted = new AbortController();
const { signal } = interrupted;
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort());
const hasRedis = hasRedisServer();
if (!hasRedis) console.error('chaos:streams: there is no redis-server on the PATH: what needs one is left out.');

let isGood = true;
let wasImpossible = !hasRedis;
/** False, and said, where the run could not be made. */
async function attempt(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!signal.aborted) console.error(error);
    wasImpossible = true;
  }
}

async function runOne(store: (typeof STORES)[number], mode: (typeof MODES)[number]): Promise<void> {
  const say = (what: string): void => console.log(`[${new Date().toISOString()}] ${what}`);
  const { history, violations, windows } = await runStreamChaos({ store, mode, seconds, seed, say, signal });
  mkdirSync(values.out, { recursive: true });
  const file = join(values.out, `streams-${store}-${mode}-${seed}.jsonl`);
  writeFileSync(file, history.events.map((event) => JSON.stringify(event)).join('\n'));
  for (const { name, hits, atLeast } of windows) {
    console.log(`  ${hits < atLeast ? 'MISSED ' : ''}${name}: ${hits} of ${atLeast}`);
  }
  for (const { invariant, subject, what } of violations.slice(0, 20)) console.log(`  ${invariant} ${subject}: ${what}`);
  for (const rule of new Set(violations.map(({ invariant }) => invariant))) {
    console.log(`  ${rule} is: ${STREAM_RULES[rule as keyof typeof STREAM_RULES]}`);
  }
  const passed = violations.length === 0 && windows.every(({ hits, atLeast }) => hits >= atLeast);
  isGood &&= passed;
  const count = (type: string): number => history.events.filter((event) => event.type === type).length;
  console.log(
    `chaos:streams ${store} ${mode} ${seconds} s seed ${seed}: ${passed ? 'PASSED' : 'FAILED'}, ${count('reading')} readings, ` +
      `${count('call')} calls of the model, ${count('fault')} faults, ${violations.length} violations; history: ${file}`,
  );
}

/** Chance has a part in most of them: what is not found is looked for again, longer. */
const TRIES = [6, 12, 24];

async function runMutant({ name, store, mode, edits, faults, crash, cut, caughtBy }: (typeof STREAM_MUTANTS)[number]) {
  const found = new Set<string>();
  const began = performance.now();
  for (const [i, length] of TRIES.entries()) {
    const run = { store, mode, edits, faults, crash, cut, signal, apps: 2, readers: 8 };
    const { violations } = await runStreamChaos({ ...run, seconds: length, seed: seed + i });
    for (const { invariant } of violations) found.add(invariant);
    if (caughtBy.some((rule) => found.has(rule))) break;
  }
  const caught = caughtBy.some((rule) => found.has(rule));
  isGood &&= caught;
  const by = [...found].sort().join(', ') || 'nothing';
  const took = ((performance.now() - began) / 1_000).toFixed(0);
  console.log(`${name} (${store}, ${mode}) → ${caught ? 'caught' : 'SURVIVED'} by ${by} [${took} s]`);
}

if (values.mutants) {
  for (const mutant of STREAM_MUTANTS.filter(({ name }) => name.includes(values.only))) {
    if (signal.aborted || (mutant.store === 'redis' && !hasRedis)) continue;
    await attempt(() => runMutant(mutant));
  }
} else {
  for (const store of stores) {
    for (const mode of modes) {
      if (signal.aborted || (store === 'redis' && !hasRedis)) continue;
      await attempt(() => runOne(store, mode));
    }
  }
}
process.exit(signal.aborted ? 130 : !isGood ? 1 : wasImpossible ? 2 : 0);
