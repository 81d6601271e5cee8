import type { StreamEnd, StreamHead } from './event-log.js';

/** The states of a record. `abandoned`: the lease is over, or the handler said so, and the outcome is unknown. */
export type RecordState = 'in_progress' | 'completed' | 'released' | 'abandoned';

/** Names a claim in the calls that follow it. */
export interface ClaimRef {
  readonly recordKey: string;
  readonly claimToken: string;
}

/** A won claim. */
export interface Claim extends ClaimRef {
  /** Random UUID of the record: the same for all attempts, another one once the key is used again. */
  readonly recordId: string;
  /** 1 for the first run under this record, 2 for the next … */
  readonly attempt: number;
  /** Greater than that of every earlier claim of this key; a safe integer. */
  readonly fencingToken: number;
  /** Whether the record was abandoned before this claim. */
  readonly tookOver: boolean;
}

/** A header of a recorded answer: lower-case name and value. A name may occur more than once. */
export type RecordedHeader = readonly [name: string, value: string];

/** An answer that is kept and can be replayed byte for byte. */
export interface KeptAnswer {
  readonly kept: true;
  /** HTTP status, or null where the operation is no HTTP request. */
  readonly status: number | null;
  readonly headers: readonly RecordedHeader[];
  readonly body: Uint8Array;
}

/** An operation that completed, but whose answer could not be kept. It never runs again. */
export interface AnswerNotKept {
  readonly kept: false;
  readonly status: number | null;
  /** `too_large`: over `maxRecordBytes`. `not_serialisable`: no bytes for the value. `late`: the client was answered by something else before the handler had ended. */
  readonly reason: 'too_large' | 'not_serialisable' | 'late';
}

/** An answer whose body is in the event log (`EventLog`), under this record's id and attempt. */
export interface StreamedAnswer {
  readonly kept: 'stream';
  readonly status: number;
  readonly headers: readonly RecordedHeader[];
  readonly end: StreamEnd;
  /** How many items the log has. */
  readonly items: number;
}

/** What a completed record holds. */
export type RecordedAnswer = KeptAnswer | AnswerNotKept | StreamedAnswer;

/** A read-only view of a record, as it stood on the store's clock at one moment. */
export interface RecordView {
  readonly recordKey: string;
  readonly recordId: string;
  readonly operation: string;
  readonly fingerprint: string;
  /** `abandoned` also where the row still says in progress but the lease is over. */
  readonly state: RecordState;
  readonly attempt: number;
  readonly fencingToken: number;
  /** When the record came to be: the first claim of this key, or the first after a retention ended. */
  readonly createdAt: Date;
  /** When the latest claim was won. */
  readonly claimedAt: Date;
  /** When the latest claim's lease ends or ended. */
  readonly leaseUntil: Date;
  readonly completedAt?: Date;
  /** When the record may be purged; absent for a live claim and for one that is kept until it is settled. */
  readonly expiresAt?: Date;
  readonly answer?: RecordedAnswer;
  /** Present where the latest attempt has appended to the event log; kept when it is abandoned. */
  readonly stream?: StreamHead;
}
