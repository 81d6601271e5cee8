import { createHash, randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { parseDuration, type Duration } from '../../core/duration.js';
import { IdempotencyConfigError, IdempotencyStoreError } from '../../core/errors.js';
import type { EventLog } from '../../core/event-log.js';
import type { ClaimRef, RecordedAnswer, RecordView } from '../../core/record.js';
import type { StepLog } from '../../core/step-log.js';
import type {
  AbandonOptions,
  ClaimRequest,
  ClaimResult,
  IdempotencyStore,
  IdempotencyStoreFactory,
  RenewResult,
  Resolution,
  WriteResult,
} from '../../core/store.js';
import type { StoreTransactions } from '../../core/transactions.js';
import { batchesSql, type BatchesSql } from './batches.sql.js';
import { checkDatabase } from './boot-checks.js';
import { findTables } from './find-table.js';
import { logsSql, type LogsSql } from './logs.sql.js';
import { PostgresCalls, type Send } from './postgres-calls.js';
import { postgresConnector, type PostgresConnector } from './postgres-driver.js';
import { PostgresEventLog, PostgresStepLog, type Call } from './postgres-logs.js';
import { dataSourceTransaction, PostgresTransactions, type RunInTransaction } from './postgres-transactions.js';
import { postgresSql, type PostgresSql, type Settled, type Statement } from './postgres.sql.js';
import { appendBatch, claimBatch, completionBatch, completionItem } from './record-batches.js';
import type { RecordTableOptions } from './record-entity.js';
import { answerValues, claimResult, recordKeyBytes, recordView, renewResult, type Row } from './record-row.js';
import { dataSourceOf } from './registered-data-source.js';
import { quoteTables, type QuotedTables, type TableName, type Tables } from './table-name.js';
import { WakeHints } from './wake-hints.js';

export interface TypeormStoreOptions extends RecordTableOptions {
  /** The name under which `TypeOrmModule` has registered the DataSource, or the DataSource itself. Default: the unnamed one. */
  readonly dataSource?: string | DataSource;
  /** How long a call may take before it counts as failed (503). Default `'2s'`. */
  readonly deadline?: Duration;
  /** Connections of the store's own, apart from the DataSource's. Default 4: enough for some thousand claims a second. */
  readonly poolSize?: number;
  /** `false`: no LISTEN/NOTIFY; requests that join a running one find its answer by asking from time to time. */
  readonly notify?: boolean;
  /**
   * How a transaction for `transaction: true` is run, where the application has its own way: one that
   * also makes it the current transaction of its libraries. It commits when `work` resolves, rolls back
   * when it rejects, and calls `work` once. Default: `dataSource.transaction(work)`.
   */
  readonly transaction?: RunInTransaction;
}

/** At boot a server may have to be woken, resolved and greeted by TLS first. */
const SHORTEST_BOOT_MS = 5_000;

/**
 * Keeps records in Postgres, through the DataSource that the application has.
 *
 * @example
 * IdempotencyModule.forRoot({ store: typeormStore(), scope: … })
 */
export function typeormStore(options: TypeormStoreOptions = {}): IdempotencyStoreFactory {
  const { poolSize = 4 } = options;
  if (!Number.isInteger(poolSize) || poolSize < 1 || poolSize > 100) {
    throw new IdempotencyConfigError(`typeormStore: poolSize must be a whole number from 1 to 100, not ${poolSize}.`);
  }
  const deadlineMs = parseDuration(options.deadline ?? '2s', 'typeormStore: deadline');
  return {
    async createStore(container) {
      const dataSource = await dataSourceOf(options.dataSource, container);
      return new TypeormStore(dataSource, { ...options, poolSize, deadlineMs });
    },
  };
}

interface Settings extends TypeormStoreOptions {
  readonly poolSize: number;
  readonly deadlineMs: number;
}

/** So many items of streams are removed by one statement, or those of one record. */
const ITEMS_PER_PURGE = 20_000;

type Sql = PostgresSql & BatchesSql & LogsSql;

/** What can be known once the DataSource is initialised. */
interface Parts {
  readonly connector: PostgresConnector;
  readonly tables: Tables<TableName>;
  readonly quoted: QuotedTables;
  readonly sql: Sql;
}

class TypeormStore implements IdempotencyStore {
  readonly name = 'postgres';
  readonly events: EventLog;
  readonly steps: StepLog;
  readonly transactions: StoreTransactions;
  private readonly calls: PostgresCalls;
  private readonly claims: ReturnType<typeof claimBatch>;
  private readonly completions: ReturnType<typeof completionBatch>;
  private readonly hints: WakeHints;
  private known: Parts | undefined;
  private completeAnywhere: Statement | undefined;

  constructor(
    private readonly dataSource: DataSource,
    private readonly settings: Settings,
  ) {
    const { poolSize, deadlineMs, notify = true } = settings;
    this.calls = new PostgresCalls(() => this.parts().connector, poolSize, deadlineMs);
    this.claims = claimBatch(this.calls, poolSize, () => this.parts().sql.claim);
    this.completions = completionBatch(this.calls, poolSize, () => this.parts().sql.complete);
    this.hints = new WakeHints({
      acrossProcesses: notify,
      table: () => this.parts().quoted.records,
      connect: () => this.parts().connector.client(deadlineMs),
      send: (statement, values) => this.calls.call(statement.what, (send) => send(statement, values)),
      patienceMs: deadlineMs,
    });
    const changed = (recordKey: string): void => this.hints.changed(recordKey);
    const call: Call = (what, work) => this.call(what, (send, sql, _tables, end) => work(send, sql, end));
    this.events = new PostgresEventLog(
      call,
      appendBatch(this.calls, poolSize, () => this.parts().sql.append),
      changed,
    );
    this.steps = new PostgresStepLog(call);
    this.transactions = new PostgresTransactions({
      ...{ dataSource, deadlineMs, begin: settings.transaction ?? dataSourceTransaction },
      complete: () => this.completeAnywhere ?? this.parts().sql.complete,
      committed: changed,
    });
  }

  async start(): Promise<void> {
    const { tables } = this.parts();
    const bootMs = Math.max(this.settings.deadlineMs, SHORTEST_BOOT_MS);
    const found = await this.calls.call('start', (send) => checkDatabase(send, tables), bootMs);
    // A handler may have set another search_path for its transaction, its tenant's for one.
    this.completeAnywhere = batchesSql(quoteTables(found)).complete;
  }

  async stop(): Promise<void> {
    await this.hints.stop();
    await this.calls.stop();
  }

  claim(request: ClaimRequest): Promise<ClaimResult> {
    const item = { key: recordKeyBytes(request.recordKey), request, recordId: randomUUID() };
    return this.call('claim', async (_send, _sql, _tables, end) => {
      for (;;) {
        const row = await this.claims.ask(item, end);
        if (row) {
          this.sweepAfter(request.recordKey, row);
          return claimResult(request, row);
        }
        // Another claim came between the statement's view and its write. The next one sees it;
        // `ask` ends this where somebody keeps coming between until the deadline.
      }
    });
  }

  async renew({ recordKey, claimToken }: ClaimRef, leaseMs: number): Promise<RenewResult> {
    const values = [recordKeyBytes(recordKey), claimToken, Math.round(leaseMs)];
    const [row] = await this.call('renew', (send, { renew }) => send(renew, values));
    return renewResult(row);
  }

  complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
    const item = completionItem(recordKeyBytes(claim.recordKey), claim, answer, retentionMs);
    return this.settle(claim, 'complete', 'completed', (_send, _sql, end) => this.completions.ask(item, end));
  }

  release(claim: ClaimRef, { began }: { readonly began: boolean }): Promise<WriteResult> {
    return began ? this.settleBy(claim, 'releaseBegun', 'released') : this.settleBy(claim, 'giveBack', 'given_back');
  }

  abandon(claim: ClaimRef, { began, keep }: AbandonOptions): Promise<WriteResult> {
    return this.settleBy(claim, 'abandon', 'abandoned', [began, keep === true]);
  }

  find(recordKey: string): Promise<RecordView | undefined> {
    return this.call('find', async (send, sql) => {
      const [row] = await send(sql.find, [recordKeyBytes(recordKey)]);
      return row && recordView(recordKey, row);
    });
  }

  async resolve(recordKey: string, resolution: Resolution, retentionMs: number): Promise<boolean> {
    const answer = resolution.kind === 'completed' ? resolution.answer : undefined;
    const state = answer ? 'completed' : 'released';
    const values = [recordKeyBytes(recordKey), state, Math.round(retentionMs), ...answerValues(answer)];
    const rows = await this.call('resolve', (send, sql) => send(sql.resolve, values));
    if (rows.length > 0) this.hints.changed(recordKey);
    return rows.length > 0;
  }

  async forget(recordKey: string): Promise<boolean> {
    const [row] = await this.call('forget', (send, sql) => send(sql.forget, [recordKeyBytes(recordKey)]));
    if (row) this.hints.changed(recordKey);
    return row?.['existed'] === 't';
  }

  async purge(limit: number): Promise<number> {
    return this.call('purge', async (send, { purge }, { records }) => {
      const turn = advisoryKey(`purge of ${records}`);
      const enough = performance.now() + this.settings.deadlineMs / 2;
      for (let removed = 0; ;) {
        const [row] = await send(purge, [limit - removed, turn, ITEMS_PER_PURGE]);
        removed += Number(row?.['removed']);
        // What is left then waits for the next purge.
        if (row?.['more'] !== 't' || removed >= limit || performance.now() > enough) return removed;
      }
    });
  }

  async requestCancel(recordKey: string): Promise<boolean> {
    const values = [recordKeyBytes(recordKey)];
    return (await this.call('request the cancellation', (send, sql) => send(sql.requestCancel, values))).length > 0;
  }

  subscribe(recordKey: string, wake: () => void): () => void {
    return this.hints.subscribe(recordKey, wake);
  }

  private settleBy(
    claim: ClaimRef,
    statement: 'releaseBegun' | 'giveBack' | 'abandon',
    settled: Settled,
    values: readonly unknown[] = [],
  ): Promise<WriteResult> {
    const all = [recordKeyBytes(claim.recordKey), claim.claimToken, ...values];
    return this.settle(claim, statement, settled, async (send, sql) => (await send(sql[statement], all))[0]);
  }

  private async settle(
    { recordKey, claimToken }: ClaimRef,
    what: string,
    settled: Settled,
    write: (send: Send, sql: Sql, end: number) => Promise<Row | undefined>,
  ): Promise<WriteResult> {
    const written = await this.call(what, async (send, sql, _tables, end) => {
      const row = await write(send, sql, end);
      if (row) this.sweepAfter(recordKey, row);
      return (
        row !== undefined || (await send(sql.isSettledBy, [recordKeyBytes(recordKey), claimToken, settled])).length > 0
      );
    });
    if (written) this.hints.changed(recordKey);
    return written ? 'written' : 'lost';
  }

  /**
   * Removes what earlier attempts have streamed, apart from the call that outdated it: nobody waits
   * for it, or hears of its failure. What is not removed now still stands in the row, and goes after a
   * later write or with the record.
   */
  private sweepAfter(recordKey: string, row: Row): void {
    if (row['leaves'] !== 't') return;
    void this.call('sweep', (send, { sweep }) => send(sweep, [recordKeyBytes(recordKey)])).catch(() => undefined);
  }

  private call<T>(
    what: string,
    work: (send: Send, sql: Sql, tables: QuotedTables, end: number) => Promise<T>,
  ): Promise<T> {
    let parts: Parts;
    try {
      parts = this.parts();
    } catch (cause) {
      // `start` tells of a wrong configuration; a caller that comes without it gets what callers expect.
      return Promise.reject(
        new IdempotencyStoreError(cause instanceof Error ? cause.message : String(cause), { cause }),
      );
    }
    return this.calls.call(what, (send, end) => work(send, parts.sql, parts.quoted, end));
  }

  private parts(): Parts {
    if (!this.known) {
      const connector = postgresConnector(this.dataSource);
      const tables = findTables(this.dataSource, this.settings);
      const quoted = quoteTables(tables);
      this.known = {
        connector,
        tables,
        quoted,
        sql: { ...postgresSql(quoted), ...batchesSql(quoted), ...logsSql(quoted) },
      };
    }
    return this.known;
  }
}

/** A bigint for an advisory lock, the same in all processes. */
function advisoryKey(purpose: string): string {
  return createHash('sha256').update(`nestjs-idempotency: ${purpose}`).digest().readBigInt64BE().toString();
}
