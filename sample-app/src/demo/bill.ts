import type { Usage } from '../usage/usage.service.js';
import { send } from './client.js';

/** What both tenants together have used so far. */
export interface Bill {
  readonly runs: number;
  readonly modelCalls: number;
  readonly microUsd: number;
  readonly credits: number;
  readonly charges: number;
}

export const TENANTS = { acme: 'sk-acme-demo', globex: 'sk-globex-demo' } as const;

export const NO_BILL: Bill = { runs: 0, modelCalls: 0, microUsd: 0, credits: 0, charges: 0 };

export async function usageOf(baseUrl: string, apiKey: string): Promise<Usage> {
  const { status, body } = await send(baseUrl, { path: '/v1/usage', apiKey });
  if (status !== 200) throw new Error(`GET /v1/usage answered ${status}: ${body}`);
  return JSON.parse(body) as Usage;
}

export async function readBill(baseUrl: string): Promise<Bill> {
  const usages = await Promise.all(Object.values(TENANTS).map((apiKey) => usageOf(baseUrl, apiKey)));
  return usages.reduce<Bill>(
    (bill, usage) => ({
      runs: bill.runs + usage.runs.length,
      modelCalls: bill.modelCalls + usage.model_calls.length,
      microUsd: bill.microUsd + Math.round(Number(usage.total_cost_usd) * 1_000_000),
      credits: bill.credits + usage.credits.bought,
      charges: bill.charges + usage.credits.charges.length,
    }),
    NO_BILL,
  );
}
