import { inspect } from 'node:util';
import { Report } from './demo/report.js';
import { Stage } from './demo/stage.js';
import { tellStory } from './demo/story.js';

// Plays a story against the sample application over real HTTP, in processes of its own, on a Postgres
// of its own. Exits with 0 only if every step went as promised.
const stage = new Stage();
const report = new Report();

// Children and database go whichever way the demo ends; after SIGKILL their guards see to it.
let interrupted = false;
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, () => {
    interrupted = true;
    void stage.close().finally(() => process.exit(code));
  });
}

try {
  await tellStory(stage, report);
} catch (error) {
  if (!interrupted) {
    report.abort(inspect(error));
    report.note(stage.latestOutput());
  }
} finally {
  await stage.close();
}
if (!interrupted) report.summary();
process.exitCode = report.isGood && !interrupted ? 0 : 1;
