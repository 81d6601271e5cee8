import type { FaultEvent, MarkEvent, TroubleEvent, Violation } from '../checker/history.js';

/** The source of a stream has begun: the model is called, and paid. As the ledger has it. */
export interface CallEvent {
  readonly type: 'call';
  readonly key: string;
  /** Made up for this call: each of its tokens bears it. */
  readonly salt: string;
  readonly attempt: number;
  readonly fence: number;
  readonly server: string;
  readonly at: number;
}

/** The source of a stream has come to its end: by itself, or by a failure of its own. As the ledger has it. */
export interface SourceEndEvent {
  readonly type: 'source_end';
  readonly salt: string;
  readonly end: 'complete' | 'failed';
  /** How many tokens it has made. */
  readonly tokens: number;
}

/**
 * How a reading came to its end. `clean`: the answer ended as an answer does. `interrupted` and so on: the
 * message of that name. `cut`: the connection was closed before that. `left`: by the reader itself.
 * `silent`: nothing came for too long. `refused`: an error in place of a stream.
 */
export type ReadingEnd =
  'clean' | 'interrupted' | 'failed' | 'cancelled' | 'truncated' | 'timeout' | 'cut' | 'left' | 'silent' | 'refused';

/** One answer, as its reader saw it. */
export interface ReadingEvent {
  readonly type: 'reading';
  readonly key: string;
  readonly route: 'events' | 'bytes';
  readonly server: string;
  readonly from: number;
  readonly to: number;
  /** The cursor that was sent. */
  readonly cursor?: string;
  readonly status?: number;
  /** Of an error. */
  readonly code?: string;
  /** `Idempotency-Stream`. */
  readonly standing?: string;
  /** Ids (where the answer has some) and data of what came, in this order. */
  readonly items: readonly (readonly [id: string, data: string])[];
  readonly end: ReadingEnd;
  /** Of a message that ended it: its id and reason. */
  readonly endId?: string;
  readonly reason?: string;
  /** After everything was healed, from the start. */
  readonly final?: true;
}

export type StreamEvent = CallEvent | SourceEndEvent | ReadingEvent | FaultEvent | TroubleEvent | MarkEvent;

export interface StreamHistory {
  readonly mode: 'block' | 'rerun';
  readonly events: readonly StreamEvent[];
}

export function formatStreamHistory({ mode, events }: StreamHistory): string {
  return [{ mode }, ...events].map((line) => JSON.stringify(line)).join('\n') + '\n';
}

/** Undefined: it is no history of streams. */
export function parseStreamHistory(text: string): StreamHistory | undefined {
  const [first, ...rest] = text.split('\n').filter((line) => line !== '');
  const { mode } = JSON.parse(first ?? '{}') as Partial<StreamHistory>;
  return mode && { mode, events: rest.map((line) => JSON.parse(line) as StreamEvent) };
}

export type { Violation };
