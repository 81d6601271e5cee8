import type { DataSource } from 'typeorm';
import { ANSWER, newClaim } from './requests.js';
import { openStore, type BareStore } from './store.js';

export interface TableSize {
  readonly url: string;
  readonly name: string;
  readonly records: number;
}

export interface ClaimsRound {
  readonly name: string;
  readonly claims: number;
}

const stores = new Map<string, BareStore>();
/** Rows are written in ranges, so that there is something to tell meanwhile. */
const RANGE = 1_000_000;

/** A table with so many completed records, as a day of traffic leaves it. */
export async function fillTable({ url, name, records }: TableSize): Promise<void> {
  const opened = await openStore(url, name);
  stores.set(name, opened);
  await insertRecords(opened.dataSource, name, records);
  await opened.dataSource.query(`VACUUM (ANALYZE) "${name}"`);
  await opened.dataSource.query('CHECKPOINT');
}

/** Milliseconds a claim of a new key took, one after the other. */
export async function timeClaims({ name, claims }: ClaimsRound): Promise<number> {
  const { store } = stores.get(name)!;
  const begun = performance.now();
  for (let n = 0; n < claims; n += 1) {
    const { kind } = await store.claim(newClaim());
    if (kind !== 'claimed') throw new Error(`A new key was ${kind}`);
  }
  return (performance.now() - begun) / claims;
}

export async function closeTables(): Promise<void> {
  for (const { close } of stores.values()) await close();
}

/**
 * Record keys are spread evenly, as hashes are, and written in their order: an index that is filled
 * at random takes several times as long, and looks the same to a claim. A claim's key is random.
 */
async function insertRecords(dataSource: DataSource, name: string, records: number): Promise<void> {
  const answer = ANSWER as Extract<typeof ANSWER, { kept: true }>;
  for (let from = 0; from < records; from += RANGE) {
    const to = Math.min(records, from + RANGE) - 1;
    await dataSource.query(
      `INSERT INTO "${name}" (record_key, record_id, operation, fingerprint, state, claim_token, fencing_token, attempt,
         created_at, claimed_at, lease_until, completed_at, expires_at, purge_after, retention_ms, keep_abandoned, status, headers, body)
       SELECT int4send((n::float8 / $3 * 4294967295 - 2147483648)::int4 # (-2147483648)) || substr(sha256(int4send(n)), 1, 28),
         gen_random_uuid(), 'POST /orders', repeat('f', 64), 'completed', gen_random_uuid(), n + 1, 1,
         now(), now(), now() + interval '30 s', now(), now() + interval '12 h' + n * interval '1 ms', now() + interval '12 h' + n * interval '1 ms', 86400000, true,
         201, $4::text, $5::bytea
       FROM generate_series($1::int, $2::int) AS n`,
      [from, to, records, JSON.stringify(answer.headers), answer.body],
    );
  }
}
