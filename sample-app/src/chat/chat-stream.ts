import type { Usage } from '../model/model.js';
import { completionUsage, type ChatCompletionChunk, type CompletionHead } from './chat-completion.js';

export interface ChatStream {
  readonly head: CompletionHead;
  readonly first: IteratorResult<string, Usage>;
  readonly rest: AsyncGenerator<string, Usage>;
  readonly includeUsage: boolean;
}

/** The answer as an event stream: a chunk for each token, and `[DONE]`, by which clients tell a whole answer from a broken one. */
export function eventStreamOf(stream: ChatStream): Response {
  return new Response(ReadableStream.from(framesOf(stream)), {
    headers: { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' },
  });
}

async function* framesOf(stream: ChatStream): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for await (const chunk of chunksOf(stream)) yield encoder.encode(`data: ${JSON.stringify(chunk)}\n\n`);
  yield encoder.encode('data: [DONE]\n\n');
}

async function* chunksOf({ head, first, rest, includeUsage }: ChatStream): AsyncGenerator<ChatCompletionChunk> {
  const common = { ...head, object: 'chat.completion.chunk' as const, ...(includeUsage && { usage: null }) };
  type Choice = ChatCompletionChunk['choices'][number];
  const chunk = (delta: Choice['delta'], finish_reason: Choice['finish_reason'] = null): ChatCompletionChunk => ({
    ...common,
    choices: [{ index: 0, delta, logprobs: null, finish_reason }],
  });
  yield chunk({ role: 'assistant', content: '' });
  let next = first;
  for (; !next.done; next = await rest.next()) yield chunk({ content: next.value });
  yield chunk({}, 'stop');
  if (includeUsage) yield { ...common, choices: [], usage: completionUsage(next.value) };
}
