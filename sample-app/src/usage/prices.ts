import type { ModelCallKind } from './model-call.entity.js';

export interface Tokens {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** Millionths of a dollar for a token (that is, dollars for a million of them). */
const PRICES: Readonly<Record<ModelCallKind, { input: number; output: number }>> = {
  chat: { input: 2.5, output: 10 },
  embedding: { input: 0.13, output: 0 },
};

export function costMicroUsd(kind: ModelCallKind, { inputTokens, outputTokens }: Tokens): number {
  const { input, output } = PRICES[kind];
  return Math.ceil(inputTokens * input + outputTokens * output);
}

export function dollars(microUsd: number): string {
  return (microUsd / 1_000_000).toFixed(6);
}
