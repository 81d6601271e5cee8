import type { RecordView } from './record.js';
import type { IdempotencyRunContext } from './context.js';
import type { ClaimRequest, StoreContainer } from './store.js';
import type { StreamLimits } from './streams/recorder.js';

/**
 * An answer given by hand, for an operation whose run could not tell. A string is sent as text, bytes
 * as they are, anything else as JSON. `status` and `headers` are for HTTP operations (status: that of
 * the route unless given); for `IdempotencyService.run` the body is the value.
 */
export interface SettledAnswer {
  readonly body?: unknown;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What happened in a run that did not say: it completed with this answer, or it may run again. */
export type Settlement = 'rerun' | { readonly completed: SettledAnswer };

/**
 * Asked when a run ended without telling its outcome; asks the provider, say, and answers
 * `{ completed: answer }`, `'rerun'` or `'block'` (still unknown). Only one process asks at a time.
 * A throw is `'block'`. `providers` gives the application's own services, which a decorator cannot inject.
 */
export type RecoverFunction = (
  record: RecordView,
  context: IdempotencyRunContext,
  providers: StoreContainer,
) => Settlement | 'block' | Promise<Settlement | 'block'>;

/** What the engine needs to know about an operation besides its name and payload. All times in milliseconds. */
export interface RunPolicy {
  readonly leaseMs: number;
  readonly maxDurationMs: number;
  readonly retentionMs: number;
  readonly inFlight: 'reject' | 'join';
  /** Whether a duplicate follows a running stream; what `inFlight` says of streams. */
  readonly followStreams: boolean;
  readonly joinTimeoutMs: number;
  readonly afterCrash: 'block' | 'rerun' | RecoverFunction;
  readonly maxRecordBytes: number;
  readonly stream: StreamLimits;
  /** Whether the operation runs in a transaction that completes its record too. */
  readonly transaction: boolean;
}

/** What a claim under this policy does about runs that have not told their outcome: its own, and earlier ones. */
export function termsOfUnsettled({
  afterCrash,
  transaction,
}: Pick<RunPolicy, 'afterCrash' | 'transaction'>): Pick<ClaimRequest, 'keepAbandoned' | 'takeOver'> {
  // A process that died in a transaction has written nothing, so the next retry may run. What a handler
  // has itself declared unknown is kept (see `settleRun`), and so is what an operation left that had no transaction.
  if (transaction && afterCrash === 'block') return { keepAbandoned: false, takeOver: 'unless_kept' };
  return {
    keepAbandoned: afterCrash !== 'rerun',
    // A function is asked about a record as it was left, so it has to be seen before it is taken over.
    takeOver: afterCrash === 'rerun',
  };
}
