import { readFileSync } from 'node:fs';
import { check } from './checker/check.js';
import { parseHistory, type History } from './checker/history.js';
import { report } from './report.js';
import { countWindows } from './windows.js';

/** npm run chaos:check -- FILE: judges a history again. Exit code 1: a violation; 2: there is no history in it. */
const [file, ...rest] = process.argv.slice(2);
if (file === undefined || rest.length > 0) {
  console.error('chaos:check: the file of one history, as `npm run chaos` writes it');
  process.exit(2);
}

function read(path: string): History {
  try {
    return parseHistory(readFileSync(path, 'utf8'));
  } catch (error) {
    console.error(`chaos:check: ${path}: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(2);
  }
}

const history = read(file);
const violations = check(history);
const { store, mode } = history.settings;
// How long the run was, and hence how often each window had to be hit, is the run's own business.
const windows = countWindows(history, 0);
const { text } = report({ store, mode, seconds: 0, seed: 0 }, { history, violations, windows, faults: new Map() });
console.log(text);
console.log(`chaos:check ${store} ${mode}: ${history.events.length} events, ${violations.length} violations`);
process.exit(violations.length === 0 ? 0 : 1);
