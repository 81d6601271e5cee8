import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { hasRedisServer } from '../support/redis-process.js';
import { runChaos, type ChaosOptions } from './chaos.js';
import { formatHistory, type History } from './checker/history.js';
import { interruption } from './interruption.js';
import { report } from './report.js';

/**
 * npm run chaos -- --store postgres|redis|all --mode block|rerun|transaction|all --seconds N --seed S [--out DIR]
 *
 * Each run prints what it did and found; the last line is a summary. The exit code is 1 when a promise
 * was broken or a window was never hit, 2 when a run could not be made.
 */
const USAGE =
  'chaos: --store postgres|redis|all --mode block|rerun|transaction|all --seconds N --seed S [--out DIR for the histories]';

function readArguments() {
  try {
    return parseArgs({
      options: {
        store: { type: 'string', default: 'all' },
        mode: { type: 'string', default: 'all' },
        seconds: { type: 'string', default: '60' },
        seed: { type: 'string' },
        out: { type: 'string', default: join(tmpdir(), 'idempotency-chaos-histories') },
      },
    });
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    process.exit(2);
  }
}

const { values } = readArguments();
const stores = choose(values.store, ['postgres', 'redis']);
const modes = choose(values.mode, ['block', 'rerun', 'transaction']);
const seconds = Number(values.seconds);
const seed = values.seed === undefined ? Math.floor(Math.random() * 1_000_000) : Number(values.seed);

if (!stores || !modes || !(seconds > 0) || !Number.isInteger(seed)) {
  console.error(USAGE);
  process.exit(2);
}

if (values.store === 'redis' && values.mode === 'transaction') {
  console.error(
    'chaos: there is no mode transaction on Redis: what a handler writes into its database and a record in Redis ' +
      'cannot be committed together. Run it with --store postgres.',
  );
  process.exit(2);
}

function choose<T extends string>(given: string, known: readonly T[]): readonly T[] | undefined {
  if (given === 'all') return known;
  return known.includes(given as T) ? [given as T] : undefined;
}

const interrupted = interruption();

const summaries: string[] = [];
let isGood = true;
let wasImpossible = false;

for (const store of stores) {
  if (store === 'redis' && !hasRedisServer()) {
    console.error(
      'chaos: there is no redis-server on the PATH, so nothing was run on Redis. Install one and run again.',
    );
    wasImpossible = true;
    continue;
  }
  for (const mode of modes) {
    if (mode === 'transaction' && store === 'redis') continue;
    if (!interrupted.aborted) isGood = (await one({ store, mode, seconds, seed })) && isGood;
  }
}

async function one(options: ChaosOptions): Promise<boolean> {
  const say = (what: string): void => console.log(`[${new Date().toISOString()}] ${what}`);
  const file = join(values.out, `${options.store}-${options.mode}-${options.seed}.jsonl`);
  const keep = (history: History): void => {
    mkdirSync(values.out, { recursive: true });
    writeFileSync(file, formatHistory(history));
  };
  let result;
  try {
    result = await runChaos({ ...options, say, keep, signal: interrupted });
  } catch (error) {
    // What is broken off in the middle may well fail.
    if (!interrupted.aborted) console.error(error);
    wasImpossible = true;
    return true;
  }
  const { text, summary, isGood: good } = report(options, result);
  console.log(text);
  console.log(`history: ${file}`);
  summaries.push(summary);
  return good;
}

for (const summary of summaries) console.log(summary);
process.exit(interrupted.aborted ? 130 : !isGood ? 1 : wasImpossible ? 2 : 0);
