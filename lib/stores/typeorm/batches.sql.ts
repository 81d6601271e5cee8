import { shared, type Statement } from './postgres.sql.js';
import { BY_KEY, OF_ONE_ROW, patience } from './shared-sql.js';
import {
  ANSWER,
  DURABLE,
  endsAt,
  FENCE,
  fromNow,
  isOver,
  LIVE,
  leftBehind,
  millis,
  PRIOR,
  SAME_RECORD,
  STREAM,
  verdict,
  VIEW_NAMES,
  viewColumns,
} from './sql-parts.js';
import type { QuotedTables } from './table-name.js';

/**
 * Statements for many callers at once: each parameter that differs between them is an array, and each
 * row of the result tells by `n`, from 1, whose it is. Sent for one caller they are arrays of one.
 */
export interface BatchesSql {
  readonly claim: Statement;
  readonly complete: Statement;
}

export function batchesSql({ records: table }: QuotedTables): BatchesSql {
  return {
    // Race closed: two requests that both find the record free. Only one inserts or updates; the
    // other waits for that row, looks at it as it has become, and writes nothing (no row comes back:
    // its view was older than the winner's commit, so the caller sends the statement again). So it is
    // with two of one batch: the first that may take the record does, the others see that on the next turn.
    // `seen` answers replays and conflicts by reading alone: they take no row and write no WAL.
    // All decisions are made at one moment, `moment.now`. A row that this statement had to wait for
    // may have become free in the meantime; then it finds that out on the next turn. What is written
    // counts from the moment of the write, or a wait would be taken off the lease.
    // Rows are taken in the order of their keys, so that two batches never wait for each other.
    claim: shared(
      'claim',
      `WITH moment AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE ${patience('$10')}),
wanted AS MATERIALIZED (
  SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::text[], $4::text[],
    $5::bigint[], $6::boolean[], $7::uuid[])
    WITH ORDINALITY AS w (record_key, claim_token, fingerprint, operation, retention_ms, keep_abandoned, record_id, n)
  WHERE ${OF_ONE_ROW}
),
seen AS MATERIALIZED (
  SELECT * FROM (
    SELECT w.n, r.*, moment.now, ${verdict('moment.now', 'w')} AS verdict
    FROM moment CROSS JOIN wanted AS w JOIN ${table} AS r ON r.record_key = w.record_key AND ${BY_KEY}
  ) AS judged WHERE verdict IS NOT NULL
),
claimed AS (
  INSERT INTO ${table} AS r (record_key, record_id, operation, fingerprint, state, claim_token, fencing_token, attempt,
    created_at, claimed_at, lease_until, expires_at, purge_after, retention_ms, keep_abandoned)
  SELECT w.record_key, w.record_id, w.operation, w.fingerprint, 'in_progress', w.claim_token, ${FENCE}, 1,
    moment.now, moment.now, ${fromNow('$8')}, CASE WHEN w.keep_abandoned THEN NULL ELSE ${fromNow('$8 + w.retention_ms')} END,
    ${fromNow('w.retention_ms')}, w.retention_ms, w.keep_abandoned
  FROM moment CROSS JOIN (
    SELECT DISTINCT ON (w.record_key) w.* FROM wanted AS w
    WHERE NOT EXISTS (SELECT FROM seen WHERE seen.n = w.n) ORDER BY w.record_key, w.n
  ) AS w
  ON CONFLICT (record_key) DO UPDATE SET
    record_id = CASE WHEN ${SAME_RECORD} THEN r.record_id ELSE EXCLUDED.record_id END,
    created_at = CASE WHEN ${SAME_RECORD} THEN r.created_at ELSE EXCLUDED.created_at END,
    attempt = CASE WHEN ${SAME_RECORD} THEN r.attempt + 1 ELSE 1 END,
    prior = CASE WHEN ${isOver('r', 'EXCLUDED.claimed_at')} THEN NULL ELSE ${PRIOR} END,
    operation = EXCLUDED.operation,
    fingerprint = EXCLUDED.fingerprint,
    state = 'in_progress',
    claim_token = EXCLUDED.claim_token,
    given_back_token = NULL,
    fencing_token = GREATEST(r.fencing_token + 1, ${FENCE}),
    claimed_at = clock_timestamp(),
    lease_until = ${fromNow('$8')},
    completed_at = NULL,
    expires_at = CASE WHEN EXCLUDED.keep_abandoned THEN NULL ELSE ${fromNow('$8 + EXCLUDED.retention_ms')} END,
    purge_after = LEAST(r.purge_after, EXCLUDED.purge_after),
    retention_ms = EXCLUDED.retention_ms,
    keep_abandoned = EXCLUDED.keep_abandoned,
    left_behind = ${leftBehind(['r.stream_id', `CASE WHEN r.has_steps AND NOT ${SAME_RECORD} THEN r.record_id END`])},
    has_steps = CASE WHEN ${SAME_RECORD} THEN r.has_steps END,
    ${[...ANSWER, ...STREAM, 'cancel_requested'].map((name) => `${name} = NULL`).join(', ')}
  WHERE ${verdict('EXCLUDED.claimed_at', 'EXCLUDED')} IS NULL
  RETURNING r.record_key, r.claim_token, r.record_id, r.attempt, r.fencing_token, r.prior, r.left_behind IS NOT NULL AS leaves,
    ${DURABLE} AS durable
)
SELECT n, verdict, record_id, attempt, fencing_token, prior ->> 'state' AS prior_state, NULL::boolean AS leaves,
  ceil(${millis('lease_until - now')}) AS lease_remaining_ms,
  floor(${millis('now - claimed_at')}) AS running_ms,
  floor(${millis('expires_at - now')}) AS remaining_ms,
  ${viewColumns('now', "verdict = 'completed'")}
FROM seen
UNION ALL
SELECT w.n, 'claimed', c.record_id, c.attempt, c.fencing_token, c.prior ->> 'state', c.leaves, NULL, NULL, NULL,
  ${VIEW_NAMES.map(() => 'NULL').join(', ')}
FROM claimed AS c JOIN wanted AS w ON w.record_key = c.record_key AND w.claim_token = c.claim_token`,
    ),

    // Race closed: a run that slept past its lease writes over its successor's answer. Token, state
    // and lease are compared by the statement that writes, on the row as it is once it is free.
    complete: shared(
      'complete',
      `UPDATE ${table} AS r SET
  state = 'completed', completed_at = clock_timestamp(), ${endsAt(fromNow('w.retention_ms'))}, retention_ms = w.retention_ms, prior = NULL,
  ${ANSWER.map((name) => `${name} = w.${name}`).join(', ')}
FROM unnest($1::bytea[], $2::uuid[], $3::bigint[], $4::smallint[], $5::text[],
    $6::bytea[], $7::text[], $8::text[], $9::integer[])
  WITH ORDINALITY AS w (record_key, claim_token, retention_ms, ${ANSWER.join(', ')}, n)
WHERE ${patience('$10')} AND ${OF_ONE_ROW} AND r.record_key = w.record_key AND ${BY_KEY} AND r.claim_token = w.claim_token AND ${LIVE}
RETURNING w.n, ${DURABLE} AS durable, r.left_behind IS NOT NULL AS leaves`,
    ),
  };
}
