import type { ClaimRef, RecordedHeader } from './record.js';
import type { RenewResult } from './store.js';

/** Status and headers under which a stream was begun. */
export interface StreamHead {
  readonly status: number;
  readonly headers: readonly RecordedHeader[];
}

/**
 * How a stream came to its end. `complete`: its source said so. `failed`: its source failed after the
 * first item. `cancelled`: somebody asked for it. `truncated`: it outgrew what may be kept. `timeout`: its
 * source had not come to an end within `maxDuration`.
 * A stream whose producer died has no end; it is interrupted, which a reader tells from the lease.
 */
export type StreamEnd = 'complete' | 'failed' | 'cancelled' | 'truncated' | 'timeout';

/** One generation of a stream: an attempt that runs again begins another one. */
export interface StreamRef {
  readonly recordKey: string;
  readonly recordId: string;
  readonly attempt: number;
}

/** Items to append, numbered from 1 without a gap. */
export interface StreamBatch {
  /** The number of the first item. */
  readonly firstSeq: number;
  /** At least one. */
  readonly items: readonly Uint8Array[];
  /** With the first batch (`firstSeq` 1), and only with it. */
  readonly head?: StreamHead;
}

export interface StreamItem {
  readonly seq: number;
  readonly bytes: Uint8Array;
}

/** What a reader gets in one look: items, and how the stream stands, of the same moment. */
export interface StreamPage {
  /** `live`: the producer's lease is not over. `ended`: the record is completed. `interrupted`: the record is abandoned or released. */
  readonly state: 'live' | 'ended' | 'interrupted';
  /** With `ended`. */
  readonly end?: StreamEnd;
  readonly head: StreamHead;
  /** Number of the last item in the log; 0 where there is none. */
  readonly tail: number;
  /** Items after the cursor, in order, without a gap; not necessarily all of them. */
  readonly items: readonly StreamItem[];
  /** Milliseconds until the producer's lease ends, on the store's clock; 0 unless `live`. */
  readonly leaseRemainingMs: number;
}

/**
 * The log of a streamed answer: the optional part of a store that lets a retry resume. What a client
 * has seen is in it (items are appended before they are delivered), so a cursor never points past it.
 *
 * The items live and go with the record: `forget`, `purge`, the end of the retention and a claim as a
 * new record take them along (a store may sweep them up later, but not much later, and never shows them again).
 */
export interface EventLog {
  /**
   * Appends the items and sets the lease to end `leaseMs` from now: one round trip.
   * Fenced like every write under a claim: `lost` writes nothing. A batch that is repeated because its
   * reply was lost (the log already ends with its last item) answers `written` and changes nothing but the lease;
   * one that would leave a gap is `lost`. `cancel_requested`: written, and somebody has asked to cancel.
   */
  append(claim: ClaimRef, batch: StreamBatch, leaseMs: number): Promise<RenewResult>;

  /**
   * Items after the number `after` (0: from the start), at most `maxBytes` of them but at least one,
   * with the state of the stream. Undefined where this generation is gone: the record was removed,
   * its retention is over, or a later attempt has begun.
   */
  read(stream: StreamRef, after: number, maxBytes: number): Promise<StreamPage | undefined>;
}
