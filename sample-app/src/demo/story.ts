import { aCrash } from './act-crash.js';
import { ordinaryDays } from './act-ordinary-days.js';
import { theEndOfRetention } from './act-retention.js';
import { streams } from './act-streams.js';
import type { Report } from './report.js';
import type { Stage } from './stage.js';
import { Steps } from './step.js';

const ORDINARY = { LEASE: '3s', RETENTION: '1h', MODEL_DELAY_MS: '1000', TOKEN_DELAY_MS: '100' };
/** Its calls take longer than it will live. */
const DOOMED = {
  ...{ LEASE: '2s', RETENTION: '1h', AFTER_CRASH: 'block' },
  ...{ MODEL_DELAY_MS: '600000', PAYMENT_DELAY_MS: '600000' },
};
const NEXT = { LEASE: '2s', RETENTION: '1h', AFTER_CRASH: 'block', MODEL_DELAY_MS: '50' };
const FORGETFUL = { LEASE: '2s', RETENTION: '3s', MODEL_DELAY_MS: '50' };

export async function tellStory(stage: Stage, report: Report): Promise<void> {
  report.note(`Idempotency records live in ${process.env.REDIS_URL ? 'Redis' : 'Postgres'}.`);
  const steps = new Steps(report);
  const one = await stage.startInstance(ORDINARY);
  const [two, doomed] = await Promise.all([stage.startInstance(ORDINARY), stage.startInstance(DOOMED)]);
  await ordinaryDays(steps, one, two);
  await streams(steps, one, two, 3_000);
  await two.stop();
  const next = await aCrash(steps, doomed, () => stage.startInstance(NEXT));
  await theEndOfRetention(steps, next, () => stage.startInstance(FORGETFUL));
}
