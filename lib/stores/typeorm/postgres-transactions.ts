import type { DataSource, EntityManager } from 'typeorm';
import { withDeadline } from '../../core/deadline.js';
import { IdempotencyStoreError } from '../../core/errors.js';
import type { ClaimRef, RecordedAnswer } from '../../core/record.js';
import type { WriteResult } from '../../core/store.js';
import type { StoreTransaction, StoreTransactions } from '../../core/transactions.js';
import { sqlState } from './postgres-calls.js';
import type { Statement } from './postgres.sql.js';
import { completionItem, completionValues } from './record-batches.js';
import { recordKeyBytes } from './record-row.js';

/** Runs `work` in a transaction of `dataSource`: commits when it resolves, rolls back when it rejects. */
export type RunInTransaction = <T>(dataSource: DataSource, work: (manager: EntityManager) => Promise<T>) => Promise<T>;

export const dataSourceTransaction: RunInTransaction = (dataSource, work) => dataSource.transaction(work);

// Above READ COMMITTED a transaction cannot write a row that has changed since it began to read.
const RENEWED_MEANWHILE =
  ' (in a REPEATABLE READ or SERIALIZABLE transaction the lease must not be renewed: give such a route a `lease` more than three times as long as it runs)';

interface Settings {
  readonly dataSource: DataSource;
  readonly begin: RunInTransaction;
  /** How long its begin, the completion, and its commit or rollback may take, each. */
  readonly deadlineMs: number;
  readonly complete: () => Statement;
  readonly committed: (recordKey: string) => void;
}

/**
 * Transactions on the application's own DataSource, because what a handler writes and its record become
 * true together only on one connection. The application's pool may be slow to give one, and its driver
 * waits for a silent server for ever; so each part that is not the handler's has an end here.
 */
export class PostgresTransactions implements StoreTransactions {
  constructor(private readonly settings: Settings) {}

  async run<T>(work: (transaction: StoreTransaction) => Promise<T>): Promise<T> {
    const { dataSource, begin, deadlineMs } = this.settings;
    const completed: string[] = [];
    const stages = new Stages(deadlineMs);
    const all = begin(dataSource, async (manager) => {
      stages.begun();
      try {
        return await work({ manager, complete: (...call) => this.complete(manager, completed, ...call) });
      } catch (error) {
        stages.failed(error);
        throw error;
      } finally {
        stages.ended();
      }
    });
    const value = await stages.within(all);
    // Not before the commit: whoever is woken looks, and should find the answer.
    for (const recordKey of completed) this.settings.committed(recordKey);
    return value;
  }

  isAborted(error: unknown): boolean {
    const state = sqlState(error);
    return state === '40001' || state === '40P01';
  }

  /**
   * The statement of every completion, on the handler's connection. The row stays held until the
   * commit: a takeover, a resolution and a renewal wait for it, and then find the record completed.
   *
   * A completion that this claim has made before is `lost` here. To take it for written would commit a
   * second run's writes beside those of the first, whose commit was only not answered.
   */
  private async complete(
    manager: EntityManager,
    completed: string[],
    { recordKey, claimToken }: ClaimRef,
    answer: RecordedAnswer,
    retentionMs: number,
  ): Promise<WriteResult> {
    // As a SELECT, whose result is the rows in every version of TypeORM.
    const text = `WITH done AS (${this.settings.complete().text}) SELECT 1 AS written FROM done`;
    const item = completionItem(recordKeyBytes(recordKey), { recordKey, claimToken }, answer, retentionMs);
    const { deadlineMs } = this.settings;
    const sent = manager.query<unknown[]>(text, [...completionValues([item])]).catch((cause: unknown) => {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const hint = sqlState(cause) === '40001' ? RENEWED_MEANWHILE : '';
      throw new IdempotencyStoreError(`Postgres: complete in the transaction failed: ${reason}${hint}`, { cause });
    });
    const rows = await withDeadline(sent, deadlineMs, 'Postgres: complete in the transaction');
    if (rows.length === 0) return 'lost';
    completed.push(recordKey);
    return 'written';
  }
}

/** Ends the waiting for a transaction that does not begin, or does not come to its end after its work. */
class Stages {
  private timer: NodeJS.Timeout | undefined;
  private giveUp!: (error: unknown) => void;
  private readonly givenUp = new Promise<never>((_resolve, reject) => (this.giveUp = reject));
  private state: 'waiting' | 'working' | 'over' = 'waiting';
  private failure: { readonly error: unknown } | undefined;

  constructor(private readonly deadlineMs: number) {
    this.givenUp.catch(() => undefined);
    this.startTimer('no transaction could be begun');
  }

  /** @throws where the caller has been told that there would be no transaction, or where there has been one */
  begun(): void {
    if (this.state === 'over') throw new IdempotencyStoreError('Postgres: the transaction began after its deadline.');
    // A wrapper that tries again by itself would run the handler a second time under one claim.
    if (this.state === 'working') throw new IdempotencyStoreError('Postgres: a transaction runs its work once.');
    this.state = 'working';
    clearTimeout(this.timer);
  }

  failed(error: unknown): void {
    this.failure = { error };
  }

  ended(): void {
    this.startTimer('the commit was not answered');
  }

  async within<T>(all: Promise<T>): Promise<T> {
    try {
      return await Promise.race([all, this.givenUp]);
    } catch (error) {
      // What the work threw, not what came of the rollback: a connection may have died under it.
      if (this.failure) throw this.failure.error;
      if (this.state === 'working' || error instanceof IdempotencyStoreError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new IdempotencyStoreError(`Postgres: no transaction could be begun: ${reason}`, { cause: error });
    } finally {
      this.state = 'over';
      clearTimeout(this.timer);
      all.catch(() => undefined);
    }
  }

  private startTimer(what: string): void {
    this.timer = setTimeout(() => {
      this.giveUp(new IdempotencyStoreError(`Postgres: ${what} within the deadline of ${this.deadlineMs} ms.`));
    }, this.deadlineMs);
  }
}
