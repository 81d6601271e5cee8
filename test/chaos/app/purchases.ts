import { createHash } from 'node:crypto';
import type { CompletionEvent, EffectEvent } from '../checker/history.js';

/**
 * The table that the handlers write into, without a constraint: a row too many has to be seen. And a list
 * of all completions that ever became true, kept by the database itself in the same commit: the records
 * of brief retentions are gone at the end.
 */
export const PURCHASE_TABLES = `
CREATE TABLE chaos_purchases
  (key text, payload text, server text, fence bigint, attempt integer, at double precision);
CREATE TABLE chaos_completions (record_key text, fence bigint);
CREATE FUNCTION note_completion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO chaos_completions VALUES (encode(NEW.record_key, 'hex'), NEW.fencing_token);
  RETURN NULL;
END $$;
CREATE TRIGGER note_completion AFTER UPDATE ON idempotency_records FOR EACH ROW
  WHEN (NEW.state = 'completed' AND OLD.state <> 'completed') EXECUTE FUNCTION note_completion();`;

/** One statement: both tables as they were at one moment. */
export const PURCHASES_AND_COMPLETIONS = `
SELECT 'effect' AS type, key, payload, server, fence::float8, attempt, at FROM chaos_purchases
UNION ALL SELECT 'completion', record_key, NULL, NULL, fence::float8, NULL, NULL FROM chaos_completions`;

/** Keys of clients are looked for in the files of the database, where they must not be. */
function hidden(subject: string): string {
  return createHash('sha256').update(subject).digest('hex');
}

/** What a client is told by a handler whose write has failed. */
export const NOT_WRITTEN = 'not written';

interface Sql {
  query(text: string, values: unknown[]): Promise<unknown>;
}

export async function insertPurchase(
  sql: Sql,
  { subject, payload, server, fence, attempt, at }: EffectEvent,
): Promise<void> {
  const values = [hidden(subject), payload, server, fence, attempt, at];
  await sql.query('INSERT INTO chaos_purchases VALUES ($1, $2, $3, $4, $5, $6)', values);
}

/** What {@link PURCHASES_AND_COMPLETIONS} has found, of these subjects. The keys of their records are in base64url. */
export function readPurchases(
  rows: readonly object[],
  subjects: ReadonlyMap<string, string>,
): (EffectEvent | CompletionEvent)[] {
  const names = new Map<string, string>();
  for (const [recordKey, subject] of subjects) {
    names.set(hidden(subject), subject);
    names.set(Buffer.from(recordKey, 'base64url').toString('hex'), subject);
  }
  return (rows as (EffectEvent & { readonly key: string })[]).map((row) => {
    const { key, type, fence, ...rest } = row;
    // What belongs to no subject is a finding in itself: nobody had asked for it.
    const subject = names.get(key) ?? JSON.stringify(['nobody', '', key]);
    return type === 'effect' ? { ...rest, type, subject, fence } : { type, subject, fence };
  });
}
