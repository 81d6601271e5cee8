/* Pieces that the statements of postgres.sql.ts share. `r` is the row of the record. */

export const ANSWER = ['status', 'headers', 'body', 'not_kept', 'stream_end', 'stream_items'];

/** The values of `answerValues`, from the fourth on. */
export const ANSWER_FROM_4 = `status = $4::smallint, headers = $5::text, body = $6::bytea, not_kept = $7::text,
  stream_end = $8::text, stream_items = $9::integer`;

/** What of the record a stream is: the log of one claim, its head, and the number of its last item. */
export const STREAM = ['stream_id', 'stream_head', 'stream_tail'] as const;

export const LIVE = `r.state = 'in_progress' AND r.lease_until > clock_timestamp()`;

/** `$1` and `$2` are record key and claim token, as in every write under a claim. */
export const HELD = `r.record_key = $1::bytea AND r.claim_token = $2::uuid AND ${LIVE}`;

/** The same record goes on: attempt and steps count. Otherwise the row is used for a new one. */
export const SAME_RECORD = `(r.fingerprint = EXCLUDED.fingerprint AND NOT ${isOver('r', 'EXCLUDED.claimed_at')})`;

/** Microseconds of the clock: greater than what any earlier record of this key had, whose row may be gone. */
export const FENCE = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`;

/**
 * An acknowledged write survives a crash of the server, also where the database or the role has
 * switched that off; set for this one transaction, so no connection has to be prepared for it and a
 * pooler may stand between. It stands in RETURNING: evaluated when, and only when, a row was written.
 * Anything but `off` (remote_apply, say) is left as it is.
 */
export const DURABLE = `CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END`;

/**
 * What the claim that is taken over would put back, if it is undone in its turn. One step deep: a
 * handler that crashes again and again must not make the row longer each time. A claim taken over
 * beyond that is put back as an abandoned run, which is what it looks like to everybody.
 */
const PRIOR_OF_PRIOR = `CASE WHEN r.state = 'in_progress' AND r.prior ->> 'prior' IS NULL THEN r.prior END`;

/** What giveBack needs to put the record back; the answer is missing because a completed record is never claimed. */
export const PRIOR = `jsonb_build_object('state', CASE
  WHEN r.state = 'released' THEN 'released'
  WHEN r.state = 'in_progress' AND r.prior ->> 'prior' IS NULL THEN 'in_progress'
  ELSE 'abandoned'
END, 'prior', ${PRIOR_OF_PRIOR}, ${[
  'record_id',
  'operation',
  'fingerprint',
  'claim_token',
  'fencing_token',
  'attempt',
  'created_at',
  'claimed_at',
  'lease_until',
  'expires_at',
  'purge_after',
  'retention_ms',
  'keep_abandoned',
  'has_steps',
  ...STREAM,
]
  .map((name) => `'${name}', r.${name}`)
  .join(', ')})`;

/** What the claim before has of its stream; it goes on as the record's when the present claim is not counted. */
export const PRIOR_STREAM_ID = `(r.prior ->> 'stream_id')::uuid`;
export const PRIOR_RECORD_ID = `(r.prior ->> 'record_id')::uuid`;
export const PRIOR_STREAM = {
  stream_id: PRIOR_STREAM_ID,
  stream_head: `r.prior ->> 'stream_head'`,
  stream_tail: `(r.prior ->> 'stream_tail')::integer`,
};

/**
 * The ids of streams and records that the row has no more to do with, and whose items and steps are
 * still to be swept up. They stand in the row, so that whoever removes it removes them too, and no
 * crash between two statements can leave items that nobody knows of.
 */
export function leftBehind(added: readonly string[], takenBack: readonly string[] = []): string {
  const all = `array_remove(r.left_behind || ARRAY[${added.join(', ')}]::uuid[], NULL)`;
  return `NULLIF(${takenBack.reduce((ids, id) => `array_remove(${ids}, ${id})`, all)}, '{}'::uuid[])`;
}

/** What every write under a claim answers with. */
export const WROTE = `RETURNING ${DURABLE} AS durable, r.cancel_requested, r.left_behind IS NOT NULL AS leaves`;

/** The rules of the port's `claim`, in its order; NULL: the record is the claim's to take, whose row is `claim`. `$9`: takeOver, null for `unless_kept`. */
export function verdict(now: string, claim: string): string {
  const live = `r.state = 'in_progress' AND r.lease_until > ${now}`;
  return `CASE
    WHEN ${isOver('r', now)} THEN NULL
    WHEN ${live} AND r.claim_token = ${claim}.claim_token THEN 'claimed'
    WHEN r.state = 'released' THEN NULL
    WHEN r.fingerprint <> ${claim}.fingerprint THEN 'reused'
    WHEN r.state = 'completed' THEN 'completed'
    WHEN ${live} THEN 'in_progress'
    WHEN COALESCE($9::boolean, NOT r.keep_abandoned) THEN NULL
    ELSE 'abandoned'
  END`;
}

/** The record's retention is over. An empty expires_at: kept until somebody settles it, or live. */
export function isOver(row: string, now: string): string {
  return `(${row}.expires_at IS NOT NULL AND ${row}.expires_at <= ${now})`;
}

/**
 * A record's end, wherever a statement writes one. The index by which a purge finds records is not on
 * `expires_at`, which every completion and renewal moves, but on `purge_after`: from then on a purge
 * looks at the record. Set with the claim, it is never later than the end, and only a purge moves it
 * forward; so an update that gives the record a later end changes no index (it is HOT).
 */
export function endsAt(end: string): string {
  return `expires_at = ${end}, purge_after = LEAST(r.purge_after, ${end})`;
}

export function fromNow(ms: string): string {
  return `clock_timestamp() + (${ms.replace(/\$\d/g, '$&::bigint')}) * interval '1 millisecond'`;
}

export function millis(interval: string): string {
  return `extract(epoch FROM ${interval}) * 1000`;
}

export const VIEW_NAMES = [
  ...['operation', 'fingerprint', 'state', 'created_ms', 'claimed_ms', 'lease_ms', 'completed_ms', 'expires_ms'],
  ...['status', 'headers', 'not_kept', 'stream_end', 'stream_items', 'stream_head', 'body_base64'],
];

/** Times as milliseconds and bytes as base64 (much faster to read than hex), so that neither DateStyle, bytea_output nor a type parser of the application matters. */
export function viewColumns(now: string, withBody: string): string {
  const instant = (column: string): string => `floor(${millis(column)})::bigint`;
  return `operation, fingerprint,
  CASE WHEN state = 'in_progress' AND lease_until <= ${now} THEN 'abandoned' ELSE state END AS state,
  ${instant('created_at')} AS created_ms, ${instant('claimed_at')} AS claimed_ms, ${instant('lease_until')} AS lease_ms,
  ${instant('completed_at')} AS completed_ms, ${instant('expires_at')} AS expires_ms,
  status, headers, not_kept, stream_end, stream_items, stream_head, CASE WHEN ${withBody} THEN encode(body, 'base64') END AS body_base64`;
}
