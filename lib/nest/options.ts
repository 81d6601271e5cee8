import type { ExecutionContext, ModuleMetadata, Type } from '@nestjs/common';
import type { Duration } from '../core/duration.js';
import type { RecoverFunction } from '../core/policy.js';
import type { IdempotencyStore, IdempotencyStoreFactory } from '../core/store.js';
import type { RecordWhen } from '../core/record-when.js';

/** What may be set for the module as a default, on a controller, and on a handler (the nearest wins). */
export interface IdempotencyRouteOptions {
  /**
   * Who owns a key: `'global'` (one namespace for all callers; for services behind one trusted caller
   * only), or a function that gives the tenant, user or API client of the request.
   */
  scope?: 'global' | ((context: ExecutionContext) => string | number | bigint | Promise<string | number | bigint>);
  /**
   * Where the key comes from. `'header'`; `'fingerprint'`: a sent key wins, else the request's
   * fingerprint is the key (state a `retention`: two equal requests within it are one); or a function
   * of the context that gives the key, or undefined where the request has none. Default `'header'`.
   */
  key?: 'header' | 'fingerprint' | ((context: ExecutionContext) => string | undefined | Promise<string | undefined>);
  /** Name of the header. Default `Idempotency-Key`. */
  header?: string;
  /** Whether a request without a key is refused with 400. `false`: it runs unprotected. Default true. */
  required?: boolean;
  /**
   * What makes two requests the same. By default method, path, query, content type and body; `headers`
   * adds header fields, `omit` leaves out body members (dot paths, `*` for any). A function gives any
   * value to compare. `false`: nothing is compared, and the first answer is replayed for any payload.
   */
  fingerprint?:
    false | { headers?: readonly string[]; omit?: readonly string[] } | ((context: ExecutionContext) => unknown);
  /** How long a completed record is kept and replayed. Default 24 h. */
  retention?: Duration;
  /** How long a claim lives without renewal; it is renewed while the handler runs. Default 30 s. */
  lease?: Duration;
  /** When renewal stops: a handler that takes longer loses its claim; a stream ends there. Default 15 min. */
  maxDuration?: Duration;
  /**
   * A duplicate of a running request: `'reject'` (409) or `'join'` (wait, and get its answer; a stream is
   * followed live). Default `'reject'`, for streams `'join'`.
   */
  inFlight?: 'reject' | 'join';
  /** How long a joining duplicate waits before it gets a 409. Default 30 s. */
  joinTimeout?: Duration;
  /**
   * What a retry finds after a run that never said how it ended. `'block'`: 409 outcome unknown, until
   * `resolve()`. `'rerun'`: it runs again. A function: asks, and says what happened. Default `'block'`.
   * With `transaction: true` a crash leaves nothing unknown: there `'block'` holds for an `IndeterminateError` only.
   */
  afterCrash?: 'block' | 'rerun' | RecoverFunction;
  /** What a client that leaves does to the run: nothing, or `context.signal` is aborted. Default `'continue'`. */
  onDisconnect?: 'continue' | 'cancel';
  /**
   * `true`: the handler runs in a database transaction (`context.manager`), which completes the record
   * too: exactly once for what it writes through it. Stores on TypeORM only. Default false.
   */
  transaction?: boolean;
  /** Which answers are kept. Default: below 500 but 401, 403, 408, 409, 425 and 429. */
  recordWhen?: RecordWhen;
  /**
   * Largest kept response body, in bytes. A larger one is sent, but cannot be replayed (410); a stream
   * ends there, truncated. A body of bytes whose first piece is larger is no stream. Default 1 MiB,
   * streams 10 MiB.
   */
  maxRecordBytes?: number;
  /** How a streamed answer is recorded. */
  stream?: StreamOptions;
}

/** The first item of a stream is recorded and sent at once, the others in batches. */
export interface StreamOptions {
  /** Longest time that an item waits for others. Default 40 ms. */
  flushAfter?: Duration;
  /** Items that are enough for a batch. Default 64. */
  flushItems?: number;
  /** Bytes that are enough for a batch. Default 16 KiB. */
  flushBytes?: number;
  /** Most items of a stream; beyond it ends truncated. Default 50,000. */
  maxItems?: number;
}

/** How often and in what pieces expired records are removed. */
export interface PurgeOptions {
  /** Time between two purges of this process. Default 60 s. */
  every?: Duration;
  /** Most records removed by one statement. Default 500. */
  batch?: number;
}

/** Bounds of the answers that a process keeps in memory for a few seconds. */
export interface ReplayCacheOptions {
  /** Most bytes of bodies. Default 16 MiB. */
  maxBytes?: number;
  /** Most records. Default 10,000. */
  maxRecords?: number;
  /** Longest time without asking the store: what `forget` in another process takes to be seen here. Default 2 s. */
  maxAge?: Duration;
}

export interface IdempotencyModuleOptions extends IdempotencyRouteOptions {
  /** Where records live: `typeormStore()`, `redisStore({ client })`, `memoryStore()`, or your own. */
  store: IdempotencyStore | IdempotencyStoreFactory;
  scope: NonNullable<IdempotencyRouteOptions['scope']>;
  /** Key of an HMAC over fingerprints. Without it they are plain hashes, and a guessable body can be guessed from them. */
  secret?: string | Uint8Array;
  /** Removal of expired records by this process; `false` where something else calls `purge()`. Default on. */
  purge?: PurgeOptions | false;
  /** Answers kept in memory for bursts of retries; `false` switches it off. Default on. */
  replayCache?: ReplayCacheOptions | false;
  /** `true`: the application boots while the store is down, and requests get 503 until it is there. Default false. */
  lazy?: boolean;
  /** How long a shutdown waits for running operations. Default 30 s. */
  shutdownTimeout?: Duration;
  /**
   * Most streams of this process that go on without anybody in it to read them: their clients have left.
   * While there are as many, a request that would begin another one gets 503 before its handler is called;
   * retries of those that run follow as ever. Default 200.
   */
  maxDetachedStreams?: number;
  /** The page that errors point to (`type` and `Link`). Default: this package's page. */
  documentationUrl?: string;
}

/** Gives the options, for `forRootAsync({ useClass | useExisting })`. */
export interface IdempotencyOptionsFactory {
  createIdempotencyOptions(): IdempotencyModuleOptions | Promise<IdempotencyModuleOptions>;
}

export interface IdempotencyModuleAsyncOptions extends Pick<ModuleMetadata, 'imports'> {
  inject?: readonly unknown[];
  // The factory's parameters are whatever `inject` names, as everywhere in Nest.
  useFactory?: (...dependencies: never[]) => IdempotencyModuleOptions | Promise<IdempotencyModuleOptions>;
  useClass?: Type<IdempotencyOptionsFactory>;
  useExisting?: Type<IdempotencyOptionsFactory>;
}
