/** The stable codes of the library's errors; the same in HTTP answers, in `error.code` and here. */
export type IdempotencyErrorCode =
  | 'idempotency_key_missing'
  | 'idempotency_key_invalid'
  | 'idempotency_key_reused'
  | 'idempotency_in_progress'
  | 'idempotency_outcome_unknown'
  | 'idempotency_response_not_kept'
  | 'idempotency_store_unavailable'
  | 'idempotency_cursor_invalid'
  | 'idempotency_too_many_streams';

/**
 * The base of every error by which the library answers instead of running an operation.
 * `statusCode` is what an HTTP caller is told; Nest's own filter reads it where such an error leaves
 * a handler that called `IdempotencyService` by itself.
 */
export abstract class IdempotencyError extends Error {
  abstract readonly code: IdempotencyErrorCode;
  abstract readonly statusCode: number;
  /** With `status` and `statusCode` the signature by which Nest's own filter knows an error that may be shown. */
  readonly expose: boolean = true;
  /** The header or argument that the error is about, if it is about one. */
  readonly param: string | null;

  constructor(message: string, options?: { cause?: unknown; param?: string }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.param = options?.param ?? null;
  }

  /** The same as `statusCode`. */
  get status(): number {
    return this.statusCode;
  }
}

/** The route requires a key and the request has none. */
export class IdempotencyKeyMissingError extends IdempotencyError {
  readonly code = 'idempotency_key_missing';
  readonly statusCode = 400;
}

/** The key is malformed, too long, or was sent more than once. Nothing was stored. */
export class IdempotencyKeyInvalidError extends IdempotencyError {
  readonly code = 'idempotency_key_invalid';
  readonly statusCode = 400;
}

/** The key belongs to another payload. The record of that one is untouched. */
export class IdempotencyKeyReusedError extends IdempotencyError {
  readonly code = 'idempotency_key_reused';
  readonly statusCode = 422;
}

/** `Last-Event-ID` names no place in the stream of this request. The operation did not run. */
export class IdempotencyCursorInvalidError extends IdempotencyError {
  readonly code = 'idempotency_cursor_invalid';
  readonly statusCode = 400;
}

/** The same request is running at this moment. */
export class IdempotencyInProgressError extends IdempotencyError {
  readonly code = 'idempotency_in_progress';
  readonly statusCode = 409;

  constructor(
    message: string,
    /** When to ask again, in whole seconds, 1 to 59 (the range that client SDKs heed). */
    readonly retryAfterSeconds: number,
    options?: { cause?: unknown; param?: string },
  ) {
    super(message, options);
  }
}

/** An earlier run ended without telling its outcome, and the operation must not run twice. */
export class IdempotencyOutcomeUnknownError extends IdempotencyError {
  readonly code = 'idempotency_outcome_unknown';
  readonly statusCode = 409;
}

/** The operation has completed, but its answer was not kept. It never runs again. */
export class IdempotencyResponseNotKeptError extends IdempotencyError {
  readonly code = 'idempotency_response_not_kept';
  readonly statusCode = 410;
}

/**
 * The store is down or did not answer within its deadline. Thrown by stores; where it reaches a
 * caller, the operation did not run.
 */
export class IdempotencyStoreError extends IdempotencyError {
  readonly code = 'idempotency_store_unavailable';
  readonly statusCode = 503;
  // Its words name hosts and tables: for the log, not for a client.
  override readonly expose: boolean = false;
}

/**
 * As many streams without a client run in this process as may (`maxDetachedStreams`): no other one
 * begins. The operation did not run.
 */
export class IdempotencyTooManyStreamsError extends IdempotencyError {
  readonly code = 'idempotency_too_many_streams';
  readonly statusCode = 503;
}

// Errors that a handler throws are recognised by this mark rather than by their class: an application
// may load the ESM and the CommonJS build side by side, and has two of each class then.
const BRAND = Symbol.for('nestjs-idempotency:error');

/** What a thrown value says about the outcome by itself, if it does. */
export function verdictOf(error: unknown): 'indeterminate' | 'not-executed' | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const brand = (error as { [BRAND]?: unknown })[BRAND];
  return brand === 'indeterminate' || brand === 'not-executed' ? brand : undefined;
}

/** A wrong option, found at boot. The message names the option and says what to write. */
export class IdempotencyConfigError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'IdempotencyConfigError';
  }
}

/** A step of a run that cannot be recorded: its name, or its result. `result` has what the step gave, if it ran. */
export class IdempotencyStepError extends Error {
  readonly result: unknown;

  constructor(message: string, options?: ErrorOptions & { result?: unknown }) {
    super(message, options);
    this.name = 'IdempotencyStepError';
    this.result = options?.result;
  }
}

/** Somebody has asked for the run to be cancelled (`IdempotencyService.cancel`). Reason of `context.signal`. */
export class IdempotencyCancelledError extends Error {
  constructor() {
    super('The run was cancelled.');
    this.name = 'IdempotencyCancelledError';
  }
}

/** The client has left, and the route says `onDisconnect: 'cancel'`. Reason of `context.signal`. */
export class ClientLeftError extends Error {
  constructor() {
    super('The client has closed the connection.');
    this.name = 'ClientLeftError';
  }
}

/** The stream of the run has come to a limit and has ended there: what is still produced goes nowhere. Reason of `context.signal`. */
export class IdempotencyStreamLimitError extends Error {
  constructor(limit: string) {
    super(`The stream was ended: it is ${limit}.`);
    this.name = 'IdempotencyStreamLimitError';
  }
}

/** The claim was lost while the operation ran: its lease ended or the record was taken over. Reason of `context.signal`. */
export class IdempotencyClaimLostError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'IdempotencyClaimLostError';
  }
}

/**
 * Thrown by a handler that cannot tell whether its effect happened (a provider's time-out, say): the
 * outcome is recorded as unknown and the operation is not run again unless `afterCrash` says so. What
 * was written in its transaction (`transaction: true`) is rolled back.
 */
export class IndeterminateError extends Error {
  readonly statusCode = 409;
  readonly status = 409;
  readonly expose = true;
  readonly [BRAND] = 'indeterminate';

  constructor(message = 'It is not known whether the operation took effect.', options?: ErrorOptions) {
    super(message, options);
    this.name = 'IndeterminateError';
  }
}

/**
 * Thrown by a handler that knows that nothing happened: the claim is released and the next retry
 * runs, whatever `recordWhen` says. `statusCode` is what the client is told, 503 unless given.
 */
export class NotExecutedError extends Error {
  readonly statusCode: number;
  readonly status: number;
  readonly expose = true;
  readonly [BRAND] = 'not-executed';

  constructor(message = 'The operation was not executed.', options?: ErrorOptions & { statusCode?: number }) {
    super(message, options);
    this.name = 'NotExecutedError';
    this.statusCode = this.status = options?.statusCode ?? 503;
  }
}
