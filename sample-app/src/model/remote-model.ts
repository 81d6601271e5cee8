import { ApiError } from '../api/api-error.js';
import type { ModelSettings } from '../settings.js';
import { estimateTokens, Model } from './model.js';
import type { CallOptions, ChatMessage, Completion, Embedding, Usage } from './model.js';
import { eventData } from './remote-events.js';

interface ChatAnswer {
  readonly choices: readonly { readonly message: { readonly content: string | null } }[];
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

interface ChatChunk {
  readonly choices?: readonly { readonly delta?: { readonly content?: string | null } }[];
  readonly usage?: ChatAnswer['usage'] | null;
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
    return { text: choices[0]?.message.content ?? '', ...usageOf(usage) };
  }

  async *stream(messages: readonly ChatMessage[], options: CallOptions): AsyncGenerator<string, Usage> {
    const body = { model: this.chatName, messages, stream: true, stream_options: { include_usage: true } };
    const response = await this.request('chat/completions', body, options);
    let text = '';
    let usage: Usage | undefined;
    for await (const data of eventData(response)) {
      if (data === '[DONE]') return usage ?? estimateUsage(messages, text);
      const chunk = JSON.parse(data) as ChatChunk;
      const token = chunk.choices?.[0]?.delta?.content ?? '';
      if (token !== '') yield token;
      text += token;
      if (chunk.usage) usage = usageOf(chunk.usage);
    }
    throw unavailable('The model has broken off.', new Error('The stream of the model ended without [DONE].'));
  }

  async embed(text: string, options: CallOptions): Promise<Embedding> {
    const body = { model: this.embeddingName, input: text };
    const { data, usage } = await this.post<EmbeddingAnswer>('embeddings', body, options);
    return { vector: data[0]?.embedding ?? [], inputTokens: usage.prompt_tokens };
  }

  private async post<T>(path: string, body: object, options: CallOptions): Promise<T> {
    const response = await this.request(path, body, options);
    return (await response.json()) as T;
  }

  private async request(path: string, body: object, { key, signal }: CallOptions): Promise<Response> {
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
    if (response.ok) return response;
    throw unavailable(`The model answered with status ${response.status}.`, new Error(await response.text()));
  }
}

function usageOf({ prompt_tokens, completion_tokens }: ChatAnswer['usage']): Usage {
  return { inputTokens: prompt_tokens, outputTokens: completion_tokens };
}

/** For endpoints that do not count a streamed answer. */
function estimateUsage(messages: readonly ChatMessage[], text: string): Usage {
  const input = messages.map(({ content }) => content).join(' ');
  return { inputTokens: estimateTokens(input), outputTokens: estimateTokens(text) };
}

/** 502: not recorded, so the client's retry with the same key asks the model again. */
function unavailable(message: string, cause: unknown): ApiError {
  return new ApiError(502, { message, type: 'server_error', code: 'model_unavailable' }, { cause });
}
