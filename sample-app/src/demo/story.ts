import { aBatch } from './act-batch.js';
import { aCrash } from './act-crash.js';
import { ordinaryDays } from './act-ordinary-days.js';
import { aPipeline } from './act-pipeline.js';
import { purchases } from './act-purchases.js';
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
/** Rests between two paid calls for longer than it will live. */
const RESTING = { ...NEXT, MODEL_PAUSE_MS: '600000' };
const BUSY = { ...NEXT, MODEL_DELAY_MS: '200' };
/** The payment provider does what it is asked, and this process never hears of it. */
const DEAF = { ...NEXT, PAYMENT_DELAY_MS: '600000' };
const FORGETFUL = { LEASE: '2s', RETENTION: '3s', MODEL_DELAY_MS: '50' };

export async function tellStory(stage: Stage, report: Report): Promise<void> {
  report.note(`Idempotency records live in ${process.env.REDIS_URL ? 'Redis' : 'Postgres'}.`);
  const steps = new Steps(report);
  const one = await stage.startInstance(ORDINARY);
  const two = await stage.startInstance(ORDINARY);
  await ordinaryDays(steps, one, two);
  await streams(steps, one, two, 3_000);
  const start = (settings: Record<string, string>) => () => stage.startInstance(settings);
  const [doomed] = await Promise.all([stage.startInstance(DOOMED), two.stop()]);
  const next = await aCrash(steps, doomed, start(NEXT));
  await aPipeline(steps, await stage.startInstance(RESTING), next);
  await aBatch(steps, await stage.startInstance(BUSY), next);
  const last = await purchases(steps, next, {
    ...{ databaseUrl: await stage.databaseUrl(), startDeaf: start(DEAF), startNext: start(NEXT) },
  });
  await theEndOfRetention(steps, last, start(FORGETFUL));
}
