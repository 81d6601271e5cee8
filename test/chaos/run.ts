import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasRedisServer } from '../support/redis-process.js';
import { readArguments, USAGE, type Arguments } from './arguments.js';
import { runChaos } from './chaos.js';
import { formatHistory } from './checker/history.js';
import { interruption } from './interruption.js';
import { lineOf, lineOfAll, report, reportStreams, type Report, type Summary } from './report.js';
import { formatStreamHistory } from './streams/history.js';
import { runStreamChaos } from './streams/stream-chaos.js';

/**
 * npm run chaos -- --store S --mode M --seconds N --seed S [--out DIR]; without arguments everything.
 *
 * Each run prints what it did and found; a line for each is repeated at the end, and the last one is of all
 * of them. The exit code is 1 when a promise was broken, 3 when none was but a window was not hit often enough,
 * 2 when a run could not be made.
 */
const { runs, seconds, seed, out } = understand();
const signal = interruption();
const say = (what: string): void => console.log(`[${new Date().toISOString()}] ${what}`);

const hasRedis = hasRedisServer();
const summaries: Summary[] = [];
let notMade = 0;

for (const run of runs) {
  if (signal.aborted) break;
  if (run.store === 'redis' && !hasRedis) {
    notMade += 1;
    continue;
  }
  try {
    const { text, summary } = await make(run);
    console.log(text);
    summaries.push(summary);
  } catch (error) {
    // What is broken off in the middle may well fail.
    if (!signal.aborted) console.error(error);
    notMade += 1;
  }
}

if (summaries.length > 0) keep(`numbers-${seed}.json`, JSON.stringify(summaries, undefined, 2));
if (!hasRedis && runs.some(({ store }) => store === 'redis')) {
  console.error('chaos: there is no redis-server on the PATH, so nothing was run on Redis. Install one and run again.');
}
for (const summary of summaries) console.log(lineOf(summary));
console.log(lineOfAll(summaries, notMade));
process.exit(exitCode());

function exitCode(): number {
  if (signal.aborted) return 130;
  if (summaries.some(({ violations }) => violations > 0)) return 1;
  if (notMade > 0) return 2;
  return summaries.every(({ passed }) => passed) ? 0 : 3;
}

async function make({ store, mode }: Arguments['runs'][number]): Promise<Report> {
  const file = `${store}-${mode}-${seed}.jsonl`;
  const name = { store, mode, seconds, seed };
  const how = { store, seconds, seed, say, signal };
  if (mode === 'stream-block' || mode === 'stream-rerun') {
    const result = await runStreamChaos({ ...how, mode: mode === 'stream-block' ? 'block' : 'rerun' });
    keep(file, formatStreamHistory(result.history));
    return reportStreams(name, result);
  }
  // Before it is judged: whatever the judge makes of it, it is there to be looked at.
  return report(name, await runChaos({ ...how, mode, keep: (history) => keep(file, formatHistory(history)) }));
}

function keep(name: string, text: string): void {
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, name), text);
  console.log(`written: ${join(out, name)}`);
}

function understand(): Arguments {
  try {
    return readArguments(process.argv.slice(2));
  } catch (error) {
    console.error(`chaos: ${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    process.exit(2);
  }
}
