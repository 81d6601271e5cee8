import type { Usage } from '../model/model.js';

/** What a completion and each chunk of a streamed one begin with. */
export interface CompletionHead {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

export interface CompletionUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** The answer of `POST /v1/chat/completions`, as clients of the OpenAI API expect it. */
export interface ChatCompletion extends CompletionHead {
  readonly object: 'chat.completion';
  readonly choices: readonly {
    readonly index: number;
    readonly message: { readonly role: 'assistant'; readonly content: string; readonly refusal: null };
    readonly logprobs: null;
    readonly finish_reason: 'stop';
  }[];
  readonly usage: CompletionUsage;
}

/** A piece of the same answer with `stream: true`. */
export interface ChatCompletionChunk extends CompletionHead {
  readonly object: 'chat.completion.chunk';
  readonly choices: readonly {
    readonly index: number;
    readonly delta: { readonly role?: 'assistant'; readonly content?: string };
    readonly logprobs: null;
    readonly finish_reason: 'stop' | null;
  }[];
  /** Absent where the client has not asked for it. */
  readonly usage?: CompletionUsage | null;
}

export function completionUsage({ inputTokens, outputTokens }: Usage): CompletionUsage {
  return { prompt_tokens: inputTokens, completion_tokens: outputTokens, total_tokens: inputTokens + outputTokens };
}
