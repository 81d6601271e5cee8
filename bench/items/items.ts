import { NestFactory } from '@nestjs/core';
import type { INestApplicationContext } from '@nestjs/common';
import { IdempotencyService } from 'nestjs-idempotency';
import type { RoundResult } from '../load/rounds.js';
import { Tally } from '../load/tally.js';
import { benchApp, type BenchApp } from '../server/app.js';
import type { ServerSettings } from '../server/settings.js';

export interface ItemsRound {
  readonly settings: ServerSettings;
  /** How many items are under way at a time. */
  readonly atOnce: number;
  readonly seconds: number;
}

interface Job {
  readonly app: BenchApp;
  readonly context: INestApplicationContext;
}

const jobs = new Map<string, Promise<Job>>();
let items = 0;

/** A job over many small items: each is run under a key of its own, and does next to nothing. */
export async function runItems({ settings, atOnce, seconds }: ItemsRound): Promise<RoundResult> {
  const idempotency = (await jobOn(settings)).context.get(IdempotencyService);
  const tally = new Tally();
  const until = performance.now() + seconds * 1_000;
  const loop = async (): Promise<void> => {
    while (performance.now() < until) {
      const since = performance.now();
      const n = (items += 1);
      const operation = { operation: 'item', scope: 'bench', key: `${process.pid}-${n}`, payload: { n } };
      const { value, replayed } = await idempotency.run(operation, ({ attempt }) => ({ n, attempt }));
      if (value.n === n && !replayed) tally.arrived(1, since);
      else tally.failed(`item ${n} gave ${JSON.stringify(value)}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, loop));
  return tally.result();
}

function jobOn(settings: ServerSettings): Promise<Job> {
  let job = jobs.get(settings.store);
  if (!job) jobs.set(settings.store, (job = start(settings)));
  return job;
}

async function start(settings: ServerSettings): Promise<Job> {
  const app = benchApp(settings);
  return { app, context: await NestFactory.createApplicationContext(app.module, { logger: ['error'] }) };
}

export async function endJobs(): Promise<void> {
  for (const job of jobs.values()) {
    const { app, context } = await job;
    await context.close();
    await app.end();
  }
}
