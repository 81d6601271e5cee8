import { readFileSync } from 'node:fs';
import { check } from './checker/check.js';
import { parseHistory } from './checker/history.js';
import { report, reportStreams, type Report } from './report.js';
import { checkStreams } from './streams/check.js';
import { parseStreamHistory } from './streams/history.js';
import { countWindows } from './windows.js';

/** npm run chaos:check -- FILE: judges a history again. Exit code 1: a violation; 2: there is no history in it. */
const [file, ...rest] = process.argv.slice(2);
if (file === undefined || rest.length > 0) {
  console.error('chaos:check: the file of one history, as `npm run chaos` writes it');
  process.exit(2);
}

function judge(path: string): Report {
  const text = readFileSync(path, 'utf8');
  // How long the run was, and hence how often each window had to be hit, is the run's own business.
  const ofRun = { seconds: 0, seed: 0, faults: new Map<string, number>() };
  const streams = parseStreamHistory(text);
  if (streams) {
    const name = { store: 'stream', mode: streams.mode, ...ofRun };
    return reportStreams(name, { ...ofRun, history: streams, violations: checkStreams(streams), windows: [] });
  }
  const history = parseHistory(text);
  const { store, mode } = history.settings;
  const windows = countWindows(history, 0);
  return report({ store, mode, ...ofRun }, { ...ofRun, history, violations: check(history), windows });
}

function read(path: string): Report {
  try {
    return judge(path);
  } catch (error) {
    console.error(`chaos:check: ${path}: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(2);
  }
}

const { text, summary } = read(file);
console.log(text);
console.log(`chaos:check ${summary.store} ${summary.mode}: ${summary.violations} violations`);
process.exit(summary.violations === 0 ? 0 : 1);
