import { IdempotencyConfigError } from '../../core/errors.js';
import { sqlState, type Send } from './postgres-calls.js';
import type { Statement } from './postgres.sql.js';
import { recordColumns } from './record-entity.js';
import type { Row } from './record-row.js';
import { quoteTable, type TableName } from './table-name.js';

/**
 * Looks at the server and the table before the first request does, and says what to change. Each of
 * these would otherwise show as a failing request, or worse, not show until a record is gone.
 * @throws IdempotencyConfigError
 */
export async function checkDatabase(send: Send, name: TableName): Promise<void> {
  const table = quoteTable(name);
  const [server] = await orExplained(send(SERVER, []), table);
  checkServer(server!);
  const [facts] = await orExplained(
    send(TABLE, [table, Object.values(recordColumns).map((column) => column.name)]),
    table,
  );
  if (facts?.['kind'] == null) {
    throw new IdempotencyConfigError(
      `typeormStore: the table ${table} does not exist. Create it: add CreateIdempotencyRecords1764000000000 (or idempotencyMigration({ table, schema })) to the DataSource's \`migrations\`, or run the package's SQL file (dist/sql/0001-idempotency-records.sql), or in development register IdempotencyRecordEntity with \`synchronize: true\`.${name.schema === undefined ? ` It was looked for in the search_path ${server!['search_path']}.` : ''}`,
    );
  }
  checkTable(facts, table);
}

function checkServer(server: Row): void {
  if (server['in_recovery'] === 't') {
    throw new IdempotencyConfigError(
      'typeormStore: this server is a replica (pg_is_in_recovery). Records must be written to and read from the primary: connect the DataSource to it, or set `replication.master` to it.',
    );
  }
  if (server['read_only'] === 'on') {
    throw new IdempotencyConfigError(
      'typeormStore: transactions on this connection are read-only (default_transaction_read_only). Connect with a role and to a server that may write, or ALTER ROLE … SET default_transaction_read_only = off.',
    );
  }
  if (Number(server['version']) < 120_000) {
    throw new IdempotencyConfigError('typeormStore: Postgres 12 or newer is needed.');
  }
}

function checkTable(facts: Row, table: string): void {
  const fail = (what: string): never => {
    throw new IdempotencyConfigError(`typeormStore: ${what}`);
  };
  if (facts['kind'] !== 'r' && facts['kind'] !== 'p') {
    fail(
      `${table} is no table (a view or a foreign table, it seems). Give the name of the table of records with the \`table\` option.`,
    );
  }
  const columns = JSON.parse(facts['columns'] ?? '{}') as Record<string, string>;
  const missing = Object.values(recordColumns).filter(({ name }) => !(name in columns));
  if (missing.length > 0) {
    fail(
      `${table} lacks the column(s) ${missing.map(({ name }) => name).join(', ')}. Run this version's migrations, or name another table with the \`table\` option.`,
    );
  }
  for (const { name, type } of Object.values(recordColumns)) {
    const expected: string = type === 'timestamptz' ? 'timestamp with time zone' : type;
    if (columns[name] !== expected) {
      fail(
        `column ${name} of ${table} is ${columns[name]} and must be ${expected}. Create the table by the migration.`,
      );
    }
  }
  if (facts['foreign_columns'] != null) {
    fail(
      `${table} has the column(s) ${facts['foreign_columns']}, which must not be empty, have no default, and are not the library's. Give them a default or drop them.`,
    );
  }
  if (facts['unlogged'] !== 'f') {
    fail(
      `${table} is UNLOGGED or temporary: a crash of the server would empty it, and everything would run a second time. ALTER TABLE ${table} SET LOGGED.`,
    );
  }
  if (facts['unique_key'] !== 't') {
    fail(
      `${table} has no unique constraint on record_key alone (valid, not deferrable, without a condition), so two claims of one key could both succeed. ALTER TABLE ${table} ADD PRIMARY KEY (record_key).`,
    );
  }
  if (facts['lacking'] != null) {
    fail(
      `the role ${facts['role']} may not ${facts['lacking']} on ${table}. GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO that role.`,
    );
  }
  if (facts['row_security'] === 't') {
    fail(
      `row-level security applies to the role ${facts['role']} on ${table}: records that it hides would run again. ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY, or connect as its owner.`,
    );
  }
}

async function orExplained(rows: Promise<readonly Row[]>, table: string): Promise<readonly Row[]> {
  try {
    return await rows;
  } catch (error) {
    const state = sqlState(error);
    const message = error instanceof Error ? error.message : '';
    if (state === '42501') {
      throw new IdempotencyConfigError(
        `typeormStore: the server denies access to ${table} (${message}). GRANT USAGE on its schema.`,
      );
    }
    if (state?.startsWith('28') || state === '3D000') {
      throw new IdempotencyConfigError(
        `typeormStore: the server refuses the DataSource's credentials or database (${message}).`,
      );
    }
    throw error;
  }
}

const SERVER = check(`SELECT pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only') AS read_only,
  current_setting('server_version_num') AS version, current_setting('search_path') AS search_path`);

// $1: the quoted table. $2: our columns.
const TABLE = check(`SELECT c.relkind AS kind, current_user AS role,
  c.relpersistence <> 'p' OR EXISTS (
    SELECT FROM pg_inherits i JOIN pg_class part ON part.oid = i.inhrelid WHERE i.inhparent = c.oid AND part.relpersistence <> 'p'
  ) AS unlogged,
  (SELECT json_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
  (SELECT string_agg(a.attname, ', ') FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef
      AND a.attidentity = '' AND a.attname <> ALL ($2::text[])) AS foreign_columns,
  EXISTS (
    SELECT FROM pg_index x JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'record_key'
    WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL
      AND x.indnkeyatts = 1 AND x.indkey[0] = a.attnum
  ) AS unique_key,
  (SELECT string_agg(p, ', ') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
    WHERE NOT has_table_privilege(c.oid, p)) AS lacking,
  row_security_active(c.oid) AS row_security
FROM pg_class c WHERE c.oid = to_regclass($1::text)`);

function check(text: string): Statement {
  return { what: 'the check at boot', text, repeatable: true };
}
