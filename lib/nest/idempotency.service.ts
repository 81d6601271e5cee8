import { Inject, Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { answerOfSettlement, answerOfValue, valueOfAnswer } from '../core/answer.js';
import type { IdempotencyRunContext } from '../core/context.js';
import { IdempotencyClaimLostError, IdempotencyResponseNotKeptError, verdictOf } from '../core/errors.js';
import { fingerprintOfPayload } from '../core/fingerprint.js';
import { checkKey } from '../core/key.js';
import { parseDuration, type Duration } from '../core/duration.js';
import { termsOfUnsettled, type Settlement } from '../core/policy.js';
import type { Claim, RecordedAnswer, RecordView } from '../core/record.js';
import { recordKeyOf, type RecordName } from '../core/record-key.js';
import type { RunOutcome } from '../core/settle.js';
import { currentRun, runWithin } from '../core/run-scope.js';
import type { ClaimResult, RenewResult } from '../core/store.js';
import { checkRouteOptions } from './check-options.js';
import { EngineHost } from './engine-host.js';
import type { IdempotencyRouteOptions } from './options.js';
import { resolvePolicy, type ModuleSettings } from './resolve-options.js';
import { IDEMPOTENCY_SETTINGS } from './tokens.js';

/** The options of a route that mean something without a request. */
type PolicyOptions = Pick<
  IdempotencyRouteOptions,
  'retention' | 'lease' | 'maxDuration' | 'inFlight' | 'joinTimeout' | 'afterCrash' | 'maxRecordBytes' | 'transaction'
>;

/** An operation to run once: what it is, whose it is, its key, and what it is about. */
export interface IdempotencyOperation extends RecordName, PolicyOptions {
  /** What the operation is about; the same key with another payload is refused. Compared as canonical JSON. */
  payload?: unknown;
}

export interface IdempotencyResult<T> {
  /** What the function gave, or what it gave the first time after a turn through JSON (dates are texts then). */
  readonly value: T;
  /** Whether the value comes from the record. */
  readonly replayed: boolean;
}

/** A claim made by hand. Settle it by `complete` or `release`; `renew` it before its lease ends. */
export type ManualClaim = Claim & {
  readonly leaseMs: number;
  readonly retentionMs: number;
  readonly maxRecordBytes: number;
};

export type ManualClaimResult =
  | { readonly kind: 'claimed'; readonly claim: ManualClaim }
  | { readonly kind: 'completed'; readonly record: RecordView; readonly value: unknown }
  | Exclude<ClaimResult, { kind: 'claimed' } | { kind: 'completed' }>;

/** The engine for everything that is no HTTP handler: jobs, consumers, scripts, tests. */
@Injectable()
export class IdempotencyService {
  constructor(
    @Inject(EngineHost) private readonly host: EngineHost,
    @Inject(IDEMPOTENCY_SETTINGS) private readonly settings: ModuleSettings,
  ) {}

  /**
   * Runs `fn` unless the operation has completed before; then gives the value of that time. What `fn`
   * throws is rethrown and the claim released, so that the next call runs (`IndeterminateError`:
   * recorded as outcome unknown instead).
   *
   * @throws IdempotencyKeyInvalidError, IdempotencyKeyReusedError, IdempotencyInProgressError,
   * IdempotencyOutcomeUnknownError, IdempotencyResponseNotKeptError, IdempotencyStoreError
   *
   * @example
   * ```ts
   * const { value, replayed } = await idempotency.run(
   *   { operation: 'index-document', scope: tenant, key: jobId, payload },
   *   (context) => indexDocument(payload, context.signal),
   * );
   * ```
   */
  async run<T>(
    operation: IdempotencyOperation,
    fn: (context: IdempotencyRunContext) => T | Promise<T>,
  ): Promise<IdempotencyResult<T>> {
    const { name, fingerprint, policy } = this.read(operation);
    const engine = await this.host.engine();
    if (policy.transaction && !engine.hasTransactions) {
      throw new TypeError('transaction: true needs a store that shares a transaction: typeormStore().');
    }
    const execution = await engine.execute<T>({ ...name, fingerprint, policy }, async ({ context }) => {
      try {
        const value = await runWithin({ context }, () => fn(context));
        return { kind: 'record', answer: answerOfValue(value, policy.maxRecordBytes), value };
      } catch (error) {
        return verdictOf(error) === 'indeterminate'
          ? { kind: 'unknown', began: true, declared: true, cause: error }
          : { kind: 'release', began: true, error };
      }
    });
    if (execution.kind === 'follow') throw new TypeError('A run of the service does not follow streams.'); // it never says that it can
    if (execution.kind === 'replay') return { value: valueOrGone(execution.answer) as T, replayed: true };
    return { value: valueOrThrow(execution.outcome), replayed: false };
  }

  /**
   * The run that the caller is in, in a handler or in `run`, or undefined. Work that a handler leaves behind when it
   * has answered is in no run any more; hand it what it needs of the context.
   */
  current(): IdempotencyRunContext | undefined {
    return currentRun();
  }

  /** A read-only view of the record, or undefined: none, or its retention is over. */
  async find(name: RecordName): Promise<RecordView | undefined> {
    return (await this.host.store()).find(recordKeyOf(checkName(name)));
  }

  /** Claims by hand. The claim is not renewed by itself: call `renew`, or give a `lease` that is long enough. */
  async claim(operation: IdempotencyOperation): Promise<ManualClaimResult> {
    const { name, fingerprint, policy } = this.read(operation);
    const store = await this.host.store();
    const result = await store.claim({
      recordKey: recordKeyOf(name),
      operation: name.operation,
      fingerprint,
      claimToken: randomUUID(),
      leaseMs: policy.leaseMs,
      retentionMs: policy.retentionMs,
      // What is done under a claim by hand is in no transaction, whatever the module's default.
      ...termsOfUnsettled({ afterCrash: policy.afterCrash, transaction: false }),
    });
    if (result.kind === 'claimed') {
      const { leaseMs, retentionMs, maxRecordBytes } = policy;
      return { kind: 'claimed', claim: { ...result.claim, leaseMs, retentionMs, maxRecordBytes } };
    }
    if (result.kind === 'completed') {
      const { record } = result;
      return {
        kind: 'completed',
        record,
        value: record.answer.kept === true ? valueOfAnswer(record.answer) : undefined,
      };
    }
    return result;
  }

  /** @throws IdempotencyClaimLostError where the lease is over or another claim has taken the record */
  async renew(claim: ManualClaim): Promise<void> {
    lostIf(await (await this.host.store()).renew(claim, claim.leaseMs));
  }

  /** Records the value of a claim made by hand. @throws IdempotencyClaimLostError as `renew`; nothing is written then */
  async complete(claim: ManualClaim, value?: unknown): Promise<void> {
    const answer = answerOfValue(value, claim.maxRecordBytes);
    lostIf(await (await this.host.store()).complete(claim, answer, claim.retentionMs));
  }

  /**
   * Gives a claim made by hand back, so that the next call runs. `began: false`: nothing was started,
   * and the attempt does not count. @throws IdempotencyClaimLostError as `renew`
   */
  async release(claim: ManualClaim, { began = true }: { began?: boolean } = {}): Promise<void> {
    lostIf(await (await this.host.store()).release(claim, { began }));
  }

  /**
   * Settles a record whose outcome is unknown: `{ completed: { body, status } }` is replayed from now
   * on, `'rerun'` lets the next request run. False where there is no such record.
   */
  async resolve(
    name: RecordName,
    settlement: Settlement,
    { retention }: { retention?: Duration } = {},
  ): Promise<boolean> {
    const recordKey = recordKeyOf(checkName(name));
    const retentionMs = parseDuration(retention ?? this.settings.options.retention ?? '24h', 'resolve.retention');
    const store = await this.host.store();
    const resolved = await store.resolve(
      recordKey,
      settlement === 'rerun'
        ? { kind: 'rerun' }
        : { kind: 'completed', answer: answerOfSettlement(settlement.completed) },
      retentionMs,
    );
    (await this.host.engine()).dropReplay(recordKey);
    return resolved;
  }

  /**
   * Removes the record, so that the key can be used again; false where there is none, or a live claim
   * holds it. Another process may replay the answer from memory for as long as `replayCache.maxAge`.
   */
  async forget(name: RecordName): Promise<boolean> {
    const recordKey = recordKeyOf(checkName(name));
    const forgotten = await (await this.host.store()).forget(recordKey);
    (await this.host.engine()).dropReplay(recordKey);
    return forgotten;
  }

  /**
   * Asks the run of this record, in whatever process, to stop: its `context.signal` is aborted within a
   * third of its lease (a stream's: with its next batch), and a stream ends as cancelled for everyone.
   * False where nothing runs.
   */
  async cancel(name: RecordName): Promise<boolean> {
    const recordKey = recordKeyOf(checkName(name));
    const store = await this.host.store();
    if (!store.requestCancel) throw new TypeError(`The store '${store.name}' cannot cancel runs.`);
    (await this.host.engine()).cancel(recordKey);
    return store.requestCancel(recordKey);
  }

  /** Removes expired records, at most `limit` of them, and returns how many. The module does so by itself. */
  async purge({ limit = Infinity }: { limit?: number } = {}): Promise<number> {
    const store = await this.host.store();
    const batch = this.settings.purge ? this.settings.purge.batch : 500;
    let removed = 0;
    while (removed < limit) {
      const wanted = Math.min(batch, limit - removed);
      const now = await store.purge(wanted);
      removed += now;
      if (now < wanted) break;
    }
    return removed;
  }

  private read(operation: IdempotencyOperation): {
    name: RecordName;
    fingerprint: string;
    policy: ReturnType<typeof resolvePolicy>;
  } {
    const { operation: what, scope, key, payload, ...options } = operation;
    checkRouteOptions(options, 'IdempotencyService.run');
    const name = checkName({ operation: what, scope, key });
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    return {
      name,
      fingerprint: fingerprintOfPayload(payload, this.settings.options.secret),
      policy: resolvePolicy({ ...this.settings.options, ...given }, 'IdempotencyService.run'),
    };
  }
}

function checkName({ operation, scope, key }: RecordName): RecordName {
  if (typeof operation !== 'string' || operation === '' || operation.length > 255) {
    throw new TypeError('operation must be a text of 1 to 255 characters.');
  }
  if (typeof scope !== 'string' || scope === '')
    throw new TypeError("scope must be a text that names who owns the key, or 'global'.");
  return { operation, scope, key: checkKey(key) };
}

function valueOrGone(answer: RecordedAnswer): unknown {
  if (answer.kept === true) return valueOfAnswer(answer);
  throw new IdempotencyResponseNotKeptError(
    'This operation has completed, but its value was not kept. It will not run again.',
  );
}

function valueOrThrow<T>(outcome: RunOutcome<T>): T {
  if (outcome.kind === 'release') throw outcome.error;
  return (outcome as { value?: T }).value as T;
}

function lostIf(result: RenewResult): void {
  if (result === 'lost') {
    throw new IdempotencyClaimLostError(
      'The claim is over: its lease has ended, or another claim has taken the record.',
    );
  }
}
