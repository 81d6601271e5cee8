import { createHash } from 'node:crypto';
import {
  ANSWER_FROM_4,
  DURABLE,
  endsAt,
  fromNow,
  HELD,
  isOver,
  leftBehind,
  PRIOR_RECORD_ID,
  PRIOR_STREAM,
  PRIOR_STREAM_ID,
  STREAM,
  viewColumns,
  WROTE,
} from './sql-parts.js';
import type { QuotedTables } from './table-name.js';

/**
 * Every statement of the store. Each one decides and writes by itself, on the database's clock.
 *
 * `clock_timestamp()` and not `now()`: the latter stands still from the start of the transaction, and
 * a statement may have waited for a row since then.
 */
export interface Statement {
  /** For messages: `claim`, `renew` … */
  readonly what: string;
  readonly text: string;
  /**
   * Whether it may be sent again when nobody knows if it took effect (the connection broke before the
   * reply): true where the claim token makes the second one find the first.
   */
  readonly repeatable: boolean;
  /**
   * Where it has one, it is prepared once on each connection by that name, and soon planned no more. Made
   * of the text, so that one name never stands for two texts, whoever shares the connection.
   */
  readonly name?: string;
}

export interface PostgresSql {
  readonly renew: Statement;
  readonly releaseBegun: Statement;
  readonly giveBack: Statement;
  readonly abandon: Statement;
  readonly isSettledBy: Statement;
  readonly find: Statement;
  readonly resolve: Statement;
  readonly forget: Statement;
  readonly purge: Statement;
}

/** What {@link PostgresSql.isSettledBy} is asked for. */
export type Settled = 'completed' | 'released' | 'abandoned' | 'given_back';

/** The statements about records. */
export function postgresSql({ records: table, events, steps }: QuotedTables): PostgresSql {
  // What goes with the records of the CTE `gone`.
  const withTheirLogs = `,
items AS (DELETE FROM ${events} AS e USING gone WHERE e.stream_id = ANY (gone.ids)),
finished AS (DELETE FROM ${steps} AS s USING gone WHERE s.record_id = ANY (gone.ids))`;
  const theirIds = `ARRAY[r.stream_id, r.record_id] || r.left_behind AS ids`;
  return {
    // Race closed: a renewal that arrives after the lease, beside the claim that takes the record
    // over. Whichever gets the row first wins; the other finds another token or a longer lease.
    renew: repeatable(
      'renew',
      `UPDATE ${table} AS r SET
  lease_until = ${fromNow('$3')},
  expires_at = CASE WHEN r.keep_abandoned THEN NULL ELSE ${fromNow('$3 + r.retention_ms')} END
WHERE ${HELD} ${WROTE}`,
    ),

    // Race closed: a run that slept past its lease changes its successor's record. Token, state and lease
    // are compared by the statement that writes, on the row as it is once it is free.
    releaseBegun: repeatable(
      'release',
      `UPDATE ${table} AS r SET
  state = 'released', lease_until = clock_timestamp(), ${endsAt(fromNow('r.retention_ms'))}, prior = NULL
WHERE ${HELD} ${WROTE}`,
    ),

    // Race closed: a claim that is undone late, after another has taken the record over. The token
    // alone tells: while it is the record's, nobody else has claimed. Where there was no record
    // before, the row stays behind as one whose retention is over (a purge removes it), so that the
    // same statement, sent again, still finds that it has been done.
    giveBack: repeatable(
      'release',
      `UPDATE ${table} AS r SET
  given_back_token = r.claim_token,
  prior = NULLIF(r.prior -> 'prior', 'null'::jsonb),
  state = COALESCE(r.prior ->> 'state', 'released'),
  record_id = COALESCE((r.prior ->> 'record_id')::uuid, r.record_id),
  operation = COALESCE(r.prior ->> 'operation', r.operation),
  fingerprint = COALESCE(r.prior ->> 'fingerprint', r.fingerprint),
  claim_token = (r.prior ->> 'claim_token')::uuid,
  fencing_token = COALESCE((r.prior ->> 'fencing_token')::bigint, r.fencing_token),
  attempt = COALESCE((r.prior ->> 'attempt')::integer, r.attempt),
  created_at = COALESCE((r.prior ->> 'created_at')::timestamptz, r.created_at),
  claimed_at = COALESCE((r.prior ->> 'claimed_at')::timestamptz, r.claimed_at),
  lease_until = COALESCE((r.prior ->> 'lease_until')::timestamptz, clock_timestamp()),
  expires_at = CASE WHEN r.prior IS NULL THEN to_timestamp(0) ELSE (r.prior ->> 'expires_at')::timestamptz END,
  purge_after = CASE WHEN r.prior IS NULL THEN to_timestamp(0) ELSE (r.prior ->> 'purge_after')::timestamptz END,
  retention_ms = COALESCE((r.prior ->> 'retention_ms')::bigint, r.retention_ms),
  keep_abandoned = COALESCE((r.prior ->> 'keep_abandoned')::boolean, r.keep_abandoned),
  has_steps = CASE WHEN r.prior IS NULL OR ${PRIOR_RECORD_ID} = r.record_id THEN r.has_steps ELSE (r.prior ->> 'has_steps')::boolean END,
  ${STREAM.map((name) => `${name} = CASE WHEN r.prior IS NULL THEN r.${name} ELSE ${PRIOR_STREAM[name]} END`).join(',\n  ')},
  left_behind = CASE WHEN r.prior IS NULL THEN r.left_behind ELSE ${leftBehind(
    ['r.stream_id', `CASE WHEN r.has_steps AND ${PRIOR_RECORD_ID} <> r.record_id THEN r.record_id END`],
    [PRIOR_STREAM_ID, PRIOR_RECORD_ID],
  )} END
WHERE r.record_key = $1::bytea AND r.claim_token = $2::uuid AND r.state = 'in_progress' ${WROTE}`,
    ),

    // Race closed: as in releaseBegun.
    abandon: repeatable(
      'abandon',
      `UPDATE ${table} AS r SET
  state = 'abandoned', lease_until = clock_timestamp(), prior = NULL,
  attempt = CASE WHEN $3::boolean THEN r.attempt ELSE r.attempt - 1 END,
  ${STREAM.map((name) => `${name} = CASE WHEN $3 THEN r.${name} WHEN ${PRIOR_RECORD_ID} = r.record_id THEN ${PRIOR_STREAM[name]} END`).join(',\n  ')},
  left_behind = CASE WHEN $3 THEN r.left_behind ELSE ${leftBehind(
    ['r.stream_id'],
    [`CASE WHEN ${PRIOR_RECORD_ID} = r.record_id THEN ${PRIOR_STREAM_ID} END`],
  )} END,
  keep_abandoned = r.keep_abandoned OR $4::boolean,
  expires_at = CASE WHEN r.keep_abandoned OR $4 THEN NULL ELSE ${fromNow('r.retention_ms')} END
WHERE ${HELD} ${WROTE}`,
    ),

    // Decides nothing. Asked after a write that found no row: was it this token's own earlier write,
    // whose reply was lost? What a token has settled is changed by nobody but the next claim.
    isSettledBy: repeatable(
      'look up the write',
      `SELECT FROM ${table} AS r WHERE r.record_key = $1::bytea AND CASE
  WHEN $3::text = 'given_back' THEN r.given_back_token = $2::uuid
  ELSE r.claim_token = $2::uuid AND r.state = $3::text
END`,
    ),

    find: repeatable(
      'find',
      `SELECT r.record_id, r.attempt, r.fencing_token, ${viewColumns('moment.now', "r.state = 'completed'")}
FROM ${table} AS r CROSS JOIN (SELECT clock_timestamp() AS now OFFSET 0) AS moment
WHERE r.record_key = $1::bytea AND NOT ${isOver('r', 'moment.now')}`,
    ),

    // Race closed: two people, or a person and a claim that takes over, settle one record. The second
    // one finds it no longer abandoned. The token goes: the run that was given up can neither write
    // any more nor take this for its own lost write.
    resolve: once(
      'resolve',
      `UPDATE ${table} AS r SET
  state = $2::text, claim_token = NULL, given_back_token = NULL, prior = NULL,
  completed_at = CASE WHEN $2 = 'completed' THEN clock_timestamp() END,
  ${endsAt(fromNow('$3'))}, retention_ms = $3::bigint,
  ${ANSWER_FROM_4}
WHERE r.record_key = $1::bytea AND NOT ${isOver('r', 'clock_timestamp()')}
  AND (r.state = 'abandoned' OR (r.state = 'in_progress' AND r.lease_until <= clock_timestamp()))
RETURNING ${DURABLE} AS durable`,
    ),

    // Race closed: a record is removed while a claim is being won. The row is looked at again once it
    // is free; a live claim keeps it.
    forget: once(
      'forget',
      `WITH gone AS (
  DELETE FROM ${table} AS r
  WHERE r.record_key = $1::bytea AND NOT (r.state = 'in_progress' AND r.lease_until > clock_timestamp())
  RETURNING NOT ${isOver('r', 'clock_timestamp()')} AS existed, ${theirIds}, ${DURABLE} AS durable
)${withTheirLogs}
SELECT existed FROM gone`,
    ),

    // Race closed: a purge removes the record that a claim has just begun to use again. Rows that
    // somebody holds are skipped, and a row is looked at again once it is held. One process purges at
    // a time: the turn ends with the statement, so it also works where a pooler hands the next
    // statement to another connection. statement_timestamp(), because it is one value, which lets
    // the index on purge_after find the rows. What turns out to end later, or is kept
    // until somebody settles it, is not looked at again before its end. Streams can have many items: so
    // many records are removed as have $3 of them together, but at least one, so that the statement ends
    // within its deadline.
    purge: repeatable(
      'purge',
      `WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($2::bigint) AS mine),
due AS MATERIALIZED (
  SELECT r.record_key, r.purge_after, r.expires_at <= statement_timestamp() AS is_over, COALESCE(r.stream_tail, 0) AS items
  FROM ${table} AS r
  WHERE (SELECT mine FROM turn) AND r.purge_after <= statement_timestamp()
  ORDER BY r.purge_after LIMIT $1::integer FOR UPDATE SKIP LOCKED
),
now_due AS (
  SELECT record_key FROM (
    SELECT record_key, sum(items) OVER (ORDER BY purge_after, record_key) - items AS items_before FROM due WHERE is_over
  ) AS counted WHERE items_before < $3::bigint
),
later AS (
  UPDATE ${table} AS r SET purge_after = r.expires_at FROM due
  WHERE r.record_key = due.record_key AND due.is_over IS NOT TRUE AND (r.expires_at > statement_timestamp()) IS NOT FALSE
  RETURNING r.record_key
),
gone AS (
  DELETE FROM ${table} AS r USING now_due
  WHERE r.record_key = now_due.record_key AND r.expires_at <= statement_timestamp() RETURNING ${theirIds}
)${withTheirLogs}
SELECT (SELECT count(*) FROM gone) AS removed, (SELECT count(*) FROM due WHERE is_over) > (SELECT count(*) FROM now_due)
  OR (SELECT count(*) FROM due) = $1 AND EXISTS (SELECT FROM later) AS more`,
    ),
  };
}

export function repeatable(what: string, text: string): Statement {
  return { what, text, repeatable: true };
}

/** For many callers at once, prepared by name. */
export function shared(what: string, text: string): Statement {
  const hash = createHash('sha256').update(text).digest('hex');
  return { ...repeatable(what, text), name: `idempotency_${hash.slice(0, 32)}` };
}

export function once(what: string, text: string): Statement {
  return { what, text, repeatable: false };
}
