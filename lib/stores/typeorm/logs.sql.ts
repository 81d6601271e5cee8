import { once, repeatable, shared, type Statement } from './postgres.sql.js';
import { BY_KEY, OF_ONE_ROW, patience } from './shared-sql.js';
import { fromNow, HELD, isOver, LIVE, millis, PRIOR_RECORD_ID, PRIOR_STREAM_ID, WROTE } from './sql-parts.js';
import type { QuotedTables } from './table-name.js';

/** More batches than this are not sent at once, however small they are. */
const BATCHES_PER_PAGE = 256;

export interface LogsSql {
  readonly append: Statement;
  readonly read: Statement;
  readonly save: Statement;
  readonly load: Statement;
  readonly requestCancel: Statement;
  readonly sweep: Statement;
}

/** The statements about streams, steps and requests to cancel. `$1` and `$2` are record key and claim token. */
export function logsSql({ records, events, steps }: QuotedTables): LogsSql {
  const renewed = (leaseMs: string): string => `lease_until = ${fromNow(leaseMs)},
    expires_at = CASE WHEN r.keep_abandoned THEN NULL ELSE ${fromNow(`${leaseMs} + r.retention_ms`)} END`;
  return {
    // Race closed: a producer that slept past its lease appends beside the takeover. An INSERT …
    // SELECT … WHERE the claim is live would not see that: it judges the row as it was when it began,
    // and writes into the successor's time. This one updates the row first, so it waits for whoever
    // has it and judges what became of it; where no row is left, nothing is inserted.
    // The row's lock also puts the appends of a stream in order: no reader ever sees a gap.
    // A repeated batch finds the log ending with its own last item: the lease moves, the rest is there.
    append: shared(
      'append',
      `WITH held AS (
  UPDATE ${records} AS r SET
    stream_id = COALESCE(r.stream_id, r.claim_token),
    stream_head = COALESCE(r.stream_head, w.head),
    stream_tail = w.last_seq,
    ${renewed('w.lease_ms')}
  FROM unnest($1::bytea[], $2::uuid[], $3::bigint[], $4::integer[], $5::text[], $6::integer[], $7::text[], $8::bytea[])
    WITH ORDINALITY AS w (record_key, claim_token, lease_ms, first_seq, head, last_seq, sizes, data, n)
  WHERE ${patience('$9')} AND ${OF_ONE_ROW} AND r.record_key = w.record_key AND ${BY_KEY} AND r.claim_token = w.claim_token AND ${LIVE}
    AND (r.stream_tail = w.last_seq OR (COALESCE(r.stream_tail, 0) = w.first_seq - 1 AND COALESCE(r.stream_head, w.head) IS NOT NULL))
  ${WROTE}, r.stream_id, w.n, w.last_seq, w.sizes, w.data
),
items AS (
  INSERT INTO ${events} (stream_id, last_seq, sizes, data)
  SELECT stream_id, last_seq, sizes::integer[], data FROM held
  ON CONFLICT (stream_id, last_seq) DO NOTHING
)
SELECT n, cancel_requested FROM held`,
    ),

    // Decides nothing. One statement, hence one moment for state, tail and items. Batches are keyed by
    // their last number, so that the one in which the cursor stands is the first of one index range.
    read: repeatable(
      'read the stream',
      `WITH stream AS MATERIALIZED (
  SELECT r.stream_id, r.stream_head, COALESCE(r.stream_tail, 0) AS tail, r.status, r.headers, r.stream_end,
    CASE WHEN r.state = 'in_progress' AND r.lease_until > moment.now THEN 'live'
      WHEN r.state = 'completed' THEN 'ended' ELSE 'interrupted' END AS state,
    ceil(${millis('r.lease_until - moment.now')}) AS lease_remaining_ms
  FROM ${records} AS r CROSS JOIN (SELECT clock_timestamp() AS now OFFSET 0) AS moment
  WHERE r.record_key = $1::bytea AND r.record_id::text = $2::text AND r.attempt = $3::integer
    AND NOT ${isOver('r', 'moment.now')} AND (r.stream_head IS NOT NULL OR r.stream_end IS NOT NULL)
),
batches AS (
  SELECT e.last_seq, e.sizes, e.data FROM stream JOIN ${events} AS e ON e.stream_id = stream.stream_id
  WHERE e.last_seq > $4::bigint ORDER BY e.last_seq LIMIT ${BATCHES_PER_PAGE}
),
page AS (
  SELECT last_seq, sizes, data, sum(octet_length(data)) OVER (ORDER BY last_seq) - octet_length(data) AS bytes_before FROM batches
)
SELECT NULL::integer AS last_seq, NULL::text AS sizes, NULL::text AS data_base64,
  stream_head, tail, status, headers, stream_end, state, lease_remaining_ms FROM stream
UNION ALL
SELECT last_seq, array_to_string(sizes, ','), encode(data, 'base64'), NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM page WHERE bytes_before = 0 OR bytes_before < $5::bigint
ORDER BY last_seq NULLS FIRST`,
    ),

    // Race closed: as in append. The first result of a name stays.
    save: repeatable(
      'save a step',
      `WITH held AS (
  UPDATE ${records} AS r SET has_steps = true,
    ${renewed('$3')}
  WHERE ${HELD} ${WROTE}, r.record_id
),
finished AS (
  INSERT INTO ${steps} (record_id, name_hash, name, result)
  SELECT held.record_id, $4::bytea, $5::text, $6::bytea FROM held
  ON CONFLICT (record_id, name_hash) DO NOTHING
)
SELECT cancel_requested FROM held`,
    ),

    load: repeatable(
      'load the steps',
      `SELECT s.name, encode(s.result, 'base64') AS result_base64
FROM ${records} AS r JOIN ${steps} AS s ON s.record_id = r.record_id WHERE ${HELD}`,
    ),

    // Race closed: the claim that was meant ends, and another begins, while this is under way. The row
    // is judged once it is free; and it is not sent twice, or the second could meet the next claim.
    requestCancel: once(
      'request the cancellation',
      `UPDATE ${records} AS r SET cancel_requested = true
WHERE r.record_key = $1::bytea AND r.state = 'in_progress' AND r.lease_until > clock_timestamp() ${WROTE}`,
    ),

    // Race closed: a claim that is given back takes the stream and the steps before it back. What it
    // would need stays, and the row is held meanwhile.
    sweep: repeatable(
      'sweep',
      `WITH gone AS MATERIALIZED (
  SELECT r.record_key, ARRAY(
    SELECT id FROM unnest(r.left_behind) AS id
    WHERE id IS DISTINCT FROM ${PRIOR_STREAM_ID} AND id IS DISTINCT FROM ${PRIOR_RECORD_ID}
  ) AS ids
  FROM ${records} AS r WHERE r.record_key = $1::bytea AND r.left_behind IS NOT NULL FOR UPDATE
),
items AS (DELETE FROM ${events} AS e USING gone WHERE e.stream_id = ANY (gone.ids)),
finished AS (DELETE FROM ${steps} AS s USING gone WHERE s.record_id = ANY (gone.ids))
UPDATE ${records} AS r SET
  left_behind = NULLIF(ARRAY(SELECT id FROM unnest(r.left_behind) AS id WHERE id <> ALL (gone.ids)), '{}'::uuid[])
FROM gone WHERE r.record_key = gone.record_key AND cardinality(gone.ids) > 0`,
    ),
  };
}
