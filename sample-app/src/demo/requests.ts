import { randomUUID } from 'node:crypto';
import { TENANTS } from './bill.js';
import type { Call } from './client.js';

export const OPERATOR = 'sk-operator-demo';

/** A key that no earlier telling of the story has used; the word in front is for the reader. */
export function newKey(word: string): string {
  return `${word}-${randomUUID()}`;
}

export function chat(key: string | undefined, question: string, apiKey: string = TENANTS.acme): Call {
  const body = { model: 'any', messages: [{ role: 'user', content: question }] };
  return { path: '/v1/chat/completions', apiKey, body, ...(key !== undefined && { key }) };
}

/** The same, token by token. */
export function streamed(call: Call): Call {
  return { ...call, body: { ...call.body, stream: true } };
}

/** A new form each time: each has a boundary of its own when it is sent. */
export function upload(key: string, text: string): Call {
  const form = new FormData();
  form.set('title', 'Handbook');
  form.set('file', new File([text], 'handbook.txt', { type: 'text/plain' }));
  return { path: '/v1/documents', apiKey: TENANTS.acme, key, body: form };
}

export function purchase(key: string, credits: number): Call {
  return { path: '/v1/credits', apiKey: TENANTS.acme, key, body: { credits } };
}

/** Charged by the provider while the request lasts. */
export function charge(key: string, cents: number): Call {
  return { path: '/v1/charges', apiKey: TENANTS.acme, key, body: { amount_cents: cents } };
}

export function batch(key: string, count: number): Call {
  const items = Array.from({ length: count }, (_, index) => ({ id: `row-${index + 1}`, text: `Review ${index + 1}` }));
  return { path: '/v1/batches', apiKey: TENANTS.acme, key, body: { instruction: 'Friendly or not?', items } };
}

export function resolution(key: string, outcome: 'rerun' | { readonly body: object }): Call {
  const settled = outcome === 'rerun' ? { outcome } : { outcome: 'completed', status: 200, body: outcome.body };
  const body = { tenant: 'acme', operation: 'POST /v1/chat/completions', key, ...settled };
  return { path: '/operator/records/resolve', apiKey: OPERATOR, body };
}

/** Three parts, as the service splits. */
export const HANDBOOK = ['Refunds', 'Deliveries', 'Warranty']
  .map((topic) => `${topic}. ${`What a customer may expect of us in the matter of ${topic.toLowerCase()}. `.repeat(9)}`)
  .join('\n\n');
