import { edit, type Mutant } from './mutant.js';

const SQL = 'lib/stores/typeorm/postgres.sql.ts';
const DUE = 'AND r.purge_after <= statement_timestamp()\n  ORDER BY';
const OVER = 'r.expires_at <= statement_timestamp() AS is_over';
const GONE = 'AND r.expires_at <= statement_timestamp() RETURNING';

/** Bugs in how records are kept: through a crash of the store, until their end and no longer. */
export const keepingMutants: readonly Mutant[] = [
  {
    name: 'the table is UNLOGGED: a crash of the server empties it',
    ...{ store: 'postgres', mode: 'block', faults: ['store_kill'], caughtBy: ['I1', 'I6', 'I16'] },
    prepare: { sql: 'ALTER TABLE idempotency_records SET UNLOGGED' },
    edits: [edit('lib/stores/typeorm/boot-checks.ts', `facts['unlogged'] !== 'f'`, `facts['unlogged'] === 'unknown'`)],
  },
  {
    name: 'a commit is answered before it is on the disk',
    ...{ store: 'postgres', mode: 'block', faults: ['store_kill'], caughtBy: ['I1', 'I6', 'I16'] },
    prepare: { settings: { wal_writer_delay: '10s' } },
    edits: [
      edit(
        'lib/stores/typeorm/sql-parts.ts',
        `= 'off' THEN set_config('synchronous_commit', 'on', true)`,
        `= 'on' THEN set_config('synchronous_commit', 'off', true)`,
      ),
    ],
  },
  {
    name: 'Redis is used without its append-only file',
    ...{ store: 'redis', mode: 'block', faults: ['store_kill'], caughtBy: ['I1', 'I6', 'I16'] },
    prepare: { args: ['--appendonly', 'no'] },
    edits: [],
  },
  {
    name: 'a purge removes what has a live claim',
    ...{ store: 'postgres', mode: 'block', faults: [], caughtBy: ['I1', 'I8'] },
    edits: [
      edit(SQL, DUE, `AND (r.purge_after <= statement_timestamp() OR r.state = 'in_progress')\n  ORDER BY`),
      edit(SQL, OVER, `r.expires_at <= statement_timestamp() OR r.state = 'in_progress' AS is_over`),
      edit(SQL, GONE, 'RETURNING'),
    ],
  },
  {
    name: 'a purge removes what was recorded a second ago',
    ...{ store: 'postgres', mode: 'block', faults: [], caughtBy: ['I1', 'I6', 'I16'] },
    edits: [
      edit(SQL, DUE, `AND r.completed_at <= statement_timestamp() - interval '1 second'\n  ORDER BY`),
      edit(SQL, OVER, 'true AS is_over'),
      edit(SQL, GONE, 'RETURNING'),
    ],
  },
  {
    name: 'nothing is ever purged',
    ...{ store: 'postgres', mode: 'block', faults: [], caughtBy: ['I16'] },
    edits: [edit('lib/core/purger.ts', '(await this.store.purge(this.batch)) >= this.batch', 'this.batch < 0')],
  },
  {
    name: 'the retention is counted from the claim',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I3', 'I6', 'I8'] },
    edits: [
      edit(
        'lib/stores/redis/redis.scripts.ts',
        `write_answer(5, tonumber(ARGV[4]))
tidy(r)
tell()
return 'written'
\`;

/** ARGV: channel, message, token, began. */
const RELEASE`,
        `write_answer(5, tonumber(ARGV[4]) - (now - r.claimed))
tidy(r)
tell()
return 'written'
\`;

const RELEASE`,
      ),
    ],
  },
];
