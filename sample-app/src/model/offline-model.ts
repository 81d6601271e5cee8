import { createHash, randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { ModelSettings } from '../settings.js';
import { estimateTokens, Model } from './model.js';
import type { CallOptions, ChatMessage, Completion, Embedding, Usage } from './model.js';

const OPENINGS = ['Certainly', 'In short', 'As far as I can tell', 'Good question', 'Let me think', 'Of course'];
const MOODS = ['bright', 'cautious', 'curious', 'thorough', 'blunt', 'cheerful'];

/**
 * Needs no network and no key. Like a real model it takes its time and never says the same twice, so
 * that an answer that comes again word by word must be a replay.
 */
export class OfflineModel extends Model {
  readonly chatName: string;
  readonly embeddingName: string;
  private readonly delayMs: number;
  private readonly tokenDelayMs: number;

  constructor({ name, embeddingName, delayMs, tokenDelayMs }: ModelSettings) {
    super();
    this.chatName = name;
    this.embeddingName = embeddingName;
    this.delayMs = delayMs;
    this.tokenDelayMs = tokenDelayMs;
  }

  async chat(messages: readonly ChatMessage[], { signal }: CallOptions): Promise<Completion> {
    await pause(this.delayMs, undefined, { signal });
    const question = messages.at(-1)?.content ?? '';
    const text = `${pick(OPENINGS)}: "${question.slice(0, 60)}" calls for a ${pick(MOODS)} answer. (${randomInt(1e6, 1e7)})`;
    const inputTokens = estimateTokens(messages.map(({ content }) => content).join(' '));
    return { text, inputTokens, outputTokens: estimateTokens(text) };
  }

  async *stream(messages: readonly ChatMessage[], options: CallOptions): AsyncGenerator<string, Usage> {
    const { text, ...usage } = await this.chat(messages, options);
    for (const token of text.match(/.{1,4}/gsu) ?? []) {
      yield token;
      await pause(this.tokenDelayMs, undefined, { signal: options.signal });
    }
    return usage;
  }

  async embed(text: string, { signal }: CallOptions): Promise<Embedding> {
    await pause(this.delayMs / 4, undefined, { signal });
    const digest = createHash('sha256').update(text).digest();
    return { vector: Array.from(digest.subarray(0, 8), (byte) => byte / 255), inputTokens: estimateTokens(text) };
  }
}

function pick(choices: readonly string[]): string {
  return choices[randomInt(choices.length)]!;
}
