/** What is promised after a crash. `transaction`: the effects are rows that commit with the record. */
export type Mode = 'block' | 'rerun' | 'transaction';

/**
 * What a run leaves behind, and all that the checker knows of it. Written as JSON lines: the settings
 * first, then events in any order. All times are milliseconds of one clock that never jumps (all
 * processes of a run are on one machine).
 */
export interface Settings {
  readonly store: string;
  readonly mode: Mode;
  readonly leaseMs: number;
  /** How long answers are kept, by operation. */
  readonly retentions: Readonly<Record<string, number>>;
  /** Time between two purges. */
  readonly purgeMs: number;
  /** How much later than promised something may be seen, on a busy machine. */
  readonly graceMs: number;
  /** How long a call of the store may take before it counts as failed. */
  readonly deadlineMs: number;
  /** Key of the mark that each answer bears. Empty: answers bear none. */
  readonly secret: string;
}

/** What a client was told. */
export type Answer =
  /** A recorded answer: the operation is decided. `digest`: status, kept headers and body. `run`: the fencing token of the run that made it. */
  | {
      readonly kind: 'answered';
      readonly status: number;
      readonly digest: string;
      readonly run: number;
      readonly replayed: boolean;
      readonly mark?: string;
    }
  /** 410: decided, but the answer was not kept. */
  | { readonly kind: 'not_kept' }
  /** 422: the key belongs to another payload. */
  | { readonly kind: 'reused' }
  /** 409: it runs. */
  | { readonly kind: 'in_progress' }
  /** 409: a run ended without telling its outcome. */
  | { readonly kind: 'unknown' }
  /** 503: the store is away, nothing ran. */
  | { readonly kind: 'unavailable' }
  /** The handler's own failure, which is released: the next retry runs. */
  | { readonly kind: 'failed' }
  /** 500: what the handler wrote in its transaction met a fault; that is undone, and the next retry runs. */
  | { readonly kind: 'unwritten' }
  /** 500: it ran, and its answer could not be written. Decided: retries get `not_kept`. */
  | { readonly kind: 'unsent' }
  /** Something else, which nobody should get. */
  | { readonly kind: 'odd'; readonly what: string }
  /** No answer: the connection broke or nobody answered in time. It may have been done. */
  | { readonly kind: 'lost' };

/** A request, as its client saw it. `subject`: operation, scope and key, as a JSON list. */
export interface RequestEvent {
  readonly type: 'request';
  readonly op: string;
  readonly subject: string;
  readonly payload: string;
  readonly server: string;
  readonly from: number;
  readonly to: number;
  readonly answer: Answer;
  /** Sent after everything was healed. */
  readonly final?: true;
}

/** A call of the store, as the process that made it saw it. Without `to`: the process died before it returned. */
export interface StoreCallEvent {
  readonly type: 'store';
  readonly method: 'claim' | 'renew' | 'complete' | 'release' | 'abandon';
  readonly op: string;
  readonly subject: string;
  readonly server: string;
  readonly token: string;
  readonly from: number;
  readonly to?: number;
  /**
   * The kind of a claim's answer, `written`, `lost`, or `error`. Of a completion in a transaction it is the
   * commit that is meant, and `to` is when it was answered.
   */
  readonly got?: string;
  /** Of a claim that was won. */
  readonly fence?: number;
  readonly attempt?: number;
  readonly tookOver?: boolean;
  /** Of a completion in a transaction: when it was written there. It counts if the commit does. */
  readonly writtenAt?: number;
}

/** An effect: on the world outside, as the ledger has it, or a row of the database, as it is there at the end. */
export interface EffectEvent {
  readonly type: 'effect';
  readonly subject: string;
  readonly payload: string;
  readonly server: string;
  readonly fence: number;
  readonly attempt: number;
  readonly at: number;
}

/** A row that a handler has written in its transaction, as its process saw it: whether it is an effect, the commit decides. */
export interface WroteEvent {
  readonly type: 'wrote';
  readonly subject: string;
  readonly server: string;
  readonly fence: number;
  readonly at: number;
}

/** A completion that has become true, as the database itself has noted it in the same commit. */
export interface CompletionEvent {
  readonly type: 'completion';
  readonly subject: string;
  readonly fence: number;
}

/** Something that the nemesis did. Without `server`: to the store itself, or to all. */
export interface FaultEvent {
  readonly type: 'fault';
  readonly kind: string;
  readonly server?: string;
  readonly from: number;
  readonly to: number;
}

export interface PurgeEvent {
  readonly type: 'purge';
  readonly from: number;
  readonly to: number;
  readonly removed: number;
}

/** A record as it lay in the store at the end. */
export interface RecordEvent {
  readonly type: 'record';
  readonly subject: string;
  readonly state: string;
  /** The fencing token of its last claim. */
  readonly fence?: number;
  readonly digest?: string;
  readonly kept?: boolean;
  /** Milliseconds until its retention ends, on the store's clock; negative: it is over. Absent: kept until it is settled. */
  readonly remainingMs?: number;
}

/** What a process must never show: an unhandled rejection, a crash of its own, a planted secret in its output. */
export interface TroubleEvent {
  readonly type: 'trouble';
  readonly kind: 'process' | 'leak';
  readonly server: string;
  readonly what: string;
}

/** A number of what else happened, for windows: `purge`, `cut_claim_reply` … */
export interface MarkEvent {
  readonly type: 'mark';
  readonly what: string;
  readonly server?: string;
  readonly at: number;
}

export type Event =
  | RequestEvent
  | StoreCallEvent
  | EffectEvent
  | WroteEvent
  | CompletionEvent
  | FaultEvent
  | PurgeEvent
  | RecordEvent
  | TroubleEvent
  | MarkEvent;

export interface History {
  readonly settings: Settings;
  readonly events: readonly Event[];
}

export interface Violation {
  /** `I1` … `I17`. */
  readonly invariant: string;
  readonly subject: string;
  readonly what: string;
}

export function subjectOf(operation: string, scope: string, key: string): string {
  return JSON.stringify([operation, scope, key]);
}

export function operationOf(subject: string): string {
  return (JSON.parse(subject) as string[])[0]!;
}

export function parseHistory(text: string): History {
  const [first, ...rest] = text.split('\n').filter((line) => line !== '');
  const head = first === undefined ? undefined : (JSON.parse(first) as { settings?: Settings });
  if (!head?.settings) throw new Error('This is no history: its first line holds no settings.');
  return { settings: head.settings, events: rest.map((line) => JSON.parse(line) as Event) };
}

export function formatHistory({ settings, events }: History): string {
  return [{ settings }, ...events].map((line) => JSON.stringify(line)).join('\n') + '\n';
}
