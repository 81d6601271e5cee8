/** What the load generator is asked to do. Sent over IPC, so plain data only. */

export interface HttpRound {
  readonly kind: 'http';
  readonly url: string;
  readonly path: string;
  readonly connections: number;
  /** How long requests are begun; those that are under way then are waited for. */
  readonly seconds?: number;
  /** Or how many there are. */
  readonly amount?: number;
  /** Requests a second, whether earlier ones have been answered or not. Without it each connection sends the next one at once. */
  readonly perSecond?: number;
  /** `new`: `<prefix>-0`, `<prefix>-1` …; `few`: the same 64 keys over and over. */
  readonly keys: { readonly kind: 'new' | 'few'; readonly prefix: string };
  /** Whether the answers have to be replays. */
  readonly replayed: boolean;
}

export interface StreamRound {
  readonly kind: 'streams';
  readonly url: string;
  readonly path: string;
  readonly streams: number;
  /** Events of each stream. */
  readonly events: number;
  readonly prefix: string;
}

export type Round = HttpRound | StreamRound;

export interface RoundResult {
  /** Requests that were answered as they should be, or events that arrived. */
  readonly count: number;
  readonly seconds: number;
  /** Milliseconds: from the moment at which a request was due to the end of its answer. */
  readonly p50: number;
  readonly p99: number;
  readonly failures: number;
  readonly firstFailure?: string;
}
