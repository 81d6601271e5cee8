import { setTimeout as sleep } from 'node:timers/promises';
import { withDeadline } from '../../core/deadline.js';
import { IdempotencyConfigError, IdempotencyError, IdempotencyStoreError } from '../../core/errors.js';
import type { PgPool, PgPoolClient, PostgresConnector } from './postgres-driver.js';
import type { Statement } from './postgres.sql.js';
import type { Row } from './record-row.js';

/** What came of a statement for several. `mayBeOneRow`: nothing was done, and it may be for one of its rows only. */
export type BatchOutcome =
  { readonly rows: readonly Row[] } | { readonly error: unknown; readonly mayBeOneRow: boolean };

/** Sends one statement within the call that it was given for. */
export type Send = (statement: Statement, values: readonly unknown[]) => Promise<readonly Row[]>;

/**
 * A statement gives up so much before its call does: the silent connection is then known before the
 * caller can try again, and cannot be handed one that is as dead.
 */
const EARLIER_MS = 5;
const FIRST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 100;

/**
 * Statements over a few connections of our own, each call with an end.
 *
 * Of our own, because a handler may hold a connection of the DataSource while its record waits to be
 * written: with one pool for both, as many handlers as it has connections wait for ever.
 *
 * No session state is used, so a pooler in transaction mode may stand between (PgBouncer): each statement
 * is a transaction of its own and needs nothing from before it. Names of statements are given up
 * where the pooler does not know of them.
 */
export class PostgresCalls {
  private pool: PgPool | undefined;
  private opened: PostgresConnector | undefined;
  /** When each connection was last known to work. */
  private readonly alive = new WeakMap<object, number>();
  /** Connections that have not been heard of since then are not trusted: one of them went silent. */
  private suspectBefore = -Infinity;
  private areNamesKnown = true;

  constructor(
    private readonly connector: () => PostgresConnector,
    private readonly size: number,
    private readonly deadlineMs: number,
  ) {}

  /**
   * Runs `work` with one deadline over all its statements.
   * @throws IdempotencyStoreError in every case in which there is no answer
   */
  call<T>(what: string, work: (send: Send, end: number) => Promise<T>, deadlineMs = this.deadlineMs): Promise<T> {
    const end = performance.now() + deadlineMs;
    const done = work((statement, values) => this.send(statement, values, end), end).catch((error: unknown) => {
      const isPlain = error instanceof IdempotencyError || error instanceof IdempotencyConfigError;
      throw isPlain ? error : this.failure(what, error);
    });
    return withDeadline(done, deadlineMs, `Postgres: ${what}${this.where()}`);
  }

  async stop(): Promise<void> {
    const pool = this.pool;
    // A statement that still runs has its deadline; a connection that hangs is not waited for longer.
    if (pool) await withDeadline(pool.end(), this.deadlineMs, 'closing').catch(() => undefined);
  }

  /** Sends one statement within a call, whose end that is. */
  async send(statement: Statement, values: readonly unknown[], end: number): Promise<readonly Row[]> {
    const attempt = await this.attempts(statement, values, end, true);
    if ('rows' in attempt) return attempt.rows;
    throw attempt.error;
  }

  /** Sends one statement for several calls. Never rejects. */
  async sendForMany(statement: Statement, values: readonly unknown[], end: number): Promise<BatchOutcome> {
    const attempt = await this.attempts(statement, values, end, false);
    if ('rows' in attempt) return attempt;
    const { failed, error } = attempt;
    return { error, mayBeOneRow: failed === 'not_done' || failed === 'refused' };
  }

  /**
   * Sends until there is an answer, as long as the statement may be sent again and there is time.
   * Where it is known that nothing was sent (no connection could be made), it fails at once instead:
   * a request should not wait for a server that is down.
   */
  private async attempts(
    statement: Statement,
    values: readonly unknown[],
    end: number,
    againIfUndone: boolean,
  ): Promise<Attempt> {
    let outcomeUnknown = false;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      const attempt = await this.attempt(statement, values, end);
      if ('rows' in attempt) return attempt;
      const { failed } = attempt;
      if (failed === 'in_doubt') outcomeUnknown = true;
      const mayGoOn =
        (failed === 'not_done' && againIfUndone) ||
        failed === 'name_unknown' ||
        (failed === 'in_doubt' && statement.repeatable) ||
        (failed === 'no_connection' && outcomeUnknown);
      if (!mayGoOn || performance.now() + pause >= end) return attempt;
      await sleep(pause);
    }
  }

  private async attempt(statement: Statement, values: readonly unknown[], end: number): Promise<Attempt> {
    let client: PgPoolClient;
    try {
      client = await this.checkOut(end);
    } catch (error) {
      return { failed: 'no_connection', error };
    }
    const remaining = Math.ceil(end - performance.now());
    if (remaining <= 0) {
      client.release();
      return { failed: 'no_connection', error: new Error('no connection of the pool became free in time') };
    }
    try {
      const query_timeout = Math.max(1, remaining - EARLIER_MS);
      const { text, name } = statement;
      const query = { text, values, query_timeout, ...(this.areNamesKnown && { name }) };
      const { rows } = await client.query(query);
      this.alive.set(client, performance.now());
      client.release();
      return { rows };
    } catch (error) {
      const failed = kindOf(error);
      if (failed === 'name_unknown') this.areNamesKnown = false;
      if (failed === 'in_doubt' || isReadOnly(error)) this.discard(client, error);
      else client.release();
      const silent = sqlState(error) === undefined && performance.now() >= end - EARLIER_MS;
      return { failed, error: silent ? new Error('no answer before the deadline', { cause: error }) : error };
    }
  }

  private async checkOut(end: number): Promise<PgPoolClient> {
    this.pool ??= this.openPool();
    for (;;) {
      const client = await this.pool.connect();
      if ((this.alive.get(client) ?? Infinity) >= this.suspectBefore || performance.now() >= end) return client;
      cut(client);
    }
  }

  private openPool(): PgPool {
    this.opened = this.connector();
    const pool = this.opened.pool(this.size, this.deadlineMs);
    // A connection that breaks while nobody uses it: pg drops it, and the next call opens another.
    pool.on('error', () => undefined);
    pool.on('connect', (client: PgPoolClient) => {
      this.alive.set(client, performance.now());
      // One that breaks in our hands fails its statement; the event besides would end the process.
      client.on('error', () => undefined);
    });
    return pool;
  }

  private discard(client: PgPoolClient, error: unknown): void {
    // No word from the server at all: the others may be just as dead without knowing it.
    if (sqlState(error) === undefined) this.suspectBefore = performance.now();
    cut(client);
  }

  private failure(what: string, error: unknown): IdempotencyStoreError {
    const reason = error instanceof Error ? error.message || String(codeOf(error) ?? error.name) : String(error);
    return new IdempotencyStoreError(`Postgres: ${what}${this.where()} failed: ${reason}`, { cause: error });
  }

  private where(): string {
    return this.opened ? ` at ${this.opened.address}` : '';
  }
}

/**
 * `not_done`: the server undid it. `in_doubt`: it may have been done. `no_connection`: it was not
 * sent. `name_unknown`: it was not carried out, for its name. `refused`: the server said no, and would again.
 */
type Failed = 'not_done' | 'in_doubt' | 'no_connection' | 'name_unknown' | 'refused';
type Attempt = { readonly rows: readonly Row[] } | { readonly failed: Failed; readonly error: unknown };

function kindOf(error: unknown): Failed {
  const state = sqlState(error);
  // 40001, 40P01: serialisation failure, deadlock. The first is certain where the database's default
  // isolation is above READ COMMITTED and two claims meet.
  if (state === '40001' || state === '40P01') return 'not_done';
  // 26000, 42P05: no such prepared statement, or there is one already: a pooler has changed the connection.
  if (state === '26000' || state === '42P05') return 'name_unknown';
  // Class 08: connection; 57P0x: the server goes down, or this connection was ended by an operator.
  if (state === undefined || state.startsWith('08') || state.startsWith('57P')) return 'in_doubt';
  return 'refused';
}

/** A primary that has become a replica under an open connection: the next one may find the new primary. */
function isReadOnly(error: unknown): boolean {
  return sqlState(error) === '25006';
}

/** The five characters by which the server itself names an error; undefined for everything else. */
export function sqlState(error: unknown): string | undefined {
  const code = codeOf(error);
  const fromServer = error instanceof Error && 'severity' in error;
  return fromServer && typeof code === 'string' && code.length === 5 ? code : undefined;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

function cut(client: PgPoolClient): void {
  client.release(true);
  // After release: pg says goodbye and waits for an answer, which a silent peer never gives.
  client.connection?.stream?.destroy?.();
}
