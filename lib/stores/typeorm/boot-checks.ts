import { IdempotencyConfigError } from '../../core/errors.js';
import { sqlState, type Send } from './postgres-calls.js';
import type { Statement } from './postgres.sql.js';
import type { Row } from './record-row.js';
import { storeTables, type StoreTable } from './store-tables.js';
import { quoteTable, type TableName, type Tables } from './table-name.js';

/**
 * Looks at the server and the tables before the first request does, and says what to change. Each of
 * these would otherwise show as a failing request, or worse, not show until a record is gone.
 * @returns the tables with the schema in which they were found
 * @throws IdempotencyConfigError
 */
export async function checkDatabase(send: Send, tables: Tables<TableName>): Promise<Tables<TableName>> {
  const [server] = await orExplained(send(SERVER, []), quoteTable(tables.records));
  checkServer(server!);
  const found = { ...tables };
  for (const which of ['records', 'events', 'steps'] as const) {
    const table = quoteTable(tables[which]);
    const { columns, key } = storeTables[which];
    const [facts] = await orExplained(send(TABLE, [table, columns.map(({ name }) => name), key]), table);
    if (facts?.['kind'] == null) {
      throw new IdempotencyConfigError(
        `typeormStore: the table ${table} does not exist. Create it: add CreateIdempotencyRecords1764000000000 (or idempotencyMigration({ table, schema })) to the DataSource's \`migrations\`, or run the package's SQL file (dist/sql/0001-idempotency-records.sql), or in development register idempotencyEntities() (IdempotencyRecordEntity and those of its two other tables) with \`synchronize: true\`.${tables[which].schema === undefined ? ` It was looked for in the search_path ${server!['search_path']}.` : ''}`,
      );
    }
    checkTable(facts, table, storeTables[which]);
    found[which] = { table: tables[which].table, schema: facts['schema'] ?? undefined };
  }
  return found;
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

function checkTable(facts: Row, table: string, { columns: expected, key, without }: StoreTable): void {
  const fail = (what: string): never => {
    throw new IdempotencyConfigError(`typeormStore: ${what}`);
  };
  if (facts['kind'] !== 'r' && facts['kind'] !== 'p') {
    fail(
      `${table} is no table (a view or a foreign table, it seems). Give the name of the store's table with the \`table\` option.`,
    );
  }
  const columns = JSON.parse(facts['columns'] ?? '{}') as Record<string, string>;
  const missing = expected.filter(({ name }) => !(name in columns));
  if (missing.length > 0) {
    fail(
      `${table} lacks the column(s) ${missing.map(({ name }) => name).join(', ')}. Run this version's migrations, or name another table with the \`table\` option.`,
    );
  }
  for (const { name, type } of expected) {
    if (columns[name] !== type) {
      fail(`column ${name} of ${table} is ${columns[name]} and must be ${type}. Create the table by the migration.`);
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
      `${table} has no unique constraint on ${key.join(' and ')} alone (valid, not deferrable, without a condition), so ${without}. ALTER TABLE ${table} ADD PRIMARY KEY (${key.join(', ')}).`,
    );
  }
  if (facts['lacking'] != null) {
    fail(
      `the role ${facts['role']} may not ${facts['lacking']} on ${table}. GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO that role.`,
    );
  }
  if (facts['row_security'] === 't') {
    fail(
      `row-level security applies to the role ${facts['role']} on ${table}: what it hides would run again. ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY, or connect as its owner.`,
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

// $1: the quoted table. $2: our columns. $3: those of the key.
const TABLE = check(`SELECT c.relkind AS kind, current_user AS role,
  (SELECT nspname FROM pg_namespace n WHERE n.oid = c.relnamespace) AS schema,
  c.relpersistence <> 'p' OR EXISTS (
    SELECT FROM pg_inherits i JOIN pg_class part ON part.oid = i.inhrelid WHERE i.inhparent = c.oid AND part.relpersistence <> 'p'
  ) AS unlogged,
  (SELECT json_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
  (SELECT string_agg(a.attname, ', ') FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef
      AND a.attidentity = '' AND a.attname <> ALL ($2::text[])) AS foreign_columns,
  EXISTS (
    SELECT FROM pg_index x
    WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL
      AND x.indnkeyatts = cardinality($3::text[]) AND NOT EXISTS (
        SELECT FROM unnest($3) AS wanted JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = wanted
        WHERE a.attnum <> ALL ((x.indkey::int2[])[0:x.indnkeyatts - 1])
      )
  ) AS unique_key,
  (SELECT string_agg(p, ', ') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
    WHERE NOT has_table_privilege(c.oid, p)) AS lacking,
  row_security_active(c.oid) AS row_security
FROM pg_class c WHERE c.oid = to_regclass($1::text)`);

function check(text: string): Statement {
  return { what: 'the check at boot', text, repeatable: true };
}
