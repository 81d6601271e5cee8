import { ApiError } from '../api/api-error.js';
import type { ModelSettings } from '../settings.js';
import { Model, type CallOptions, type ChatMessage, type Completion, type Embedding } from './model.js';

interface ChatAnswer {
  readonly choices: readonly { readonly message: { readonly content: string | null } }[];
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

interface EmbeddingAnswer {
  readonly data: readonly { readonly embedding: readonly number[] }[];
  readonly usage: { readonly prompt_tokens: number };
}

/** Any endpoint that speaks the OpenAI API: the provider itself, a gateway, a model on this machine. */
export class RemoteModel extends Model {
  readonly chatName: string;
  readonly embeddingName: string;

  constructor(private readonly settings: ModelSettings & { readonly baseUrl: string }) {
    super();
    this.chatName = settings.name;
    this.embeddingName = settings.embeddingName;
  }

  async chat(messages: readonly ChatMessage[], options: CallOptions): Promise<Completion> {
    const body = { model: this.chatName, messages };
    const { choices, usage } = await this.post<ChatAnswer>('chat/completions', body, options);
    return {
      text: choices[0]?.message.content ?? '',
      inputTokens: usage.prompt_tokens,
      outputTokens: usage.completion_tokens,
    };
  }

  async embed(text: string, options: CallOptions): Promise<Embedding> {
    const body = { model: this.embeddingName, input: text };
    const { data, usage } = await this.post<EmbeddingAnswer>('embeddings', body, options);
    return { vector: data[0]?.embedding ?? [], inputTokens: usage.prompt_tokens };
  }

  private async post<T>(path: string, body: object, { key, signal }: CallOptions): Promise<T> {
    const { baseUrl, apiKey } = this.settings;
    const response = await fetch(`${baseUrl}/${path}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
        // A provider that knows the header does not compute, and charge, a second time when we ask again.
        'idempotency-key': key,
      },
      body: JSON.stringify(body),
      signal,
    }).catch((error: unknown) => {
      throw unavailable('The model could not be reached.', error);
    });
    const text = await response.text();
    if (!response.ok) throw unavailable(`The model answered with status ${response.status}.`, new Error(text));
    return JSON.parse(text) as T;
  }
}

/** 502: not recorded, so the client's retry with the same key asks the model again. */
function unavailable(message: string, cause: unknown): ApiError {
  return new ApiError(502, { message, type: 'server_error', code: 'model_unavailable' }, { cause });
}
