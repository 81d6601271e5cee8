export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** What a call has cost, as the provider counts. */
export interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface Completion extends Usage {
  readonly text: string;
}

export interface Embedding {
  readonly vector: readonly number[];
  readonly inputTokens: number;
}

export interface CallOptions {
  /** For a provider that knows idempotency keys itself: the same in every attempt of one request. */
  readonly key: string;
  /** Aborted when nobody will record the answer any more. */
  readonly signal: AbortSignal;
}

/** A provider of models. */
export abstract class Model {
  abstract readonly chatName: string;
  abstract readonly embeddingName: string;
  abstract chat(messages: readonly ChatMessage[], options: CallOptions): Promise<Completion>;
  /** The same answer token by token; what it has cost is known at its end. */
  abstract stream(messages: readonly ChatMessage[], options: CallOptions): AsyncGenerator<string, Usage>;
  abstract embed(text: string, options: CallOptions): Promise<Embedding>;
}

/** Good enough for a bill that is written before the provider has counted. */
export function estimateTokens(text: string): number {
  return Math.max(1, Math.ceil(text.length / 4));
}
