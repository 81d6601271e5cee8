import { writeFile } from 'node:fs/promises';
import { format } from 'prettier';
import { readArguments } from './arguments.js';
import { measure } from './measure.js';
import { prepare } from './prepare.js';
import { chartOf } from './report/chart.js';
import { putFigures } from './report/page.js';
import { targetsOf } from './report/targets.js';
import { textOf } from './report/text.js';
import { FULL, QUICK } from './scale.js';

const { quick, json, write } = readArguments(process.argv.slice(2));
const begun = performance.now();
const say = (text: string): void => {
  console.error(`${((performance.now() - begun) / 1_000).toFixed(0).padStart(4)} s  ${text}`);
};

// The servers' processes do not keep this one, which has to see them to their ends.
const alive = setInterval(() => undefined, 60_000);

await prepare(say);
const results = await measure(quick ? QUICK : FULL, say);
const targets = targetsOf(results);
const text = textOf(results, targets);
say('done');
if (json) console.log(JSON.stringify({ targets, ...results }, undefined, 2));
else console.log(text);
if (write) {
  const { cores, cpu, node } = results.machine;
  await putFigures(text);
  await writeFile(
    new URL('./throughput.svg', import.meta.url),
    chartOf(results.throughput[0]!, `${cores} × ${cpu}, Node ${node}.`),
  );
  const figures = await format(JSON.stringify({ targets, ...results }), { parser: 'json', printWidth: 120 });
  await writeFile(new URL('./figures.json', import.meta.url), figures);
}
clearInterval(alive);
