import { randomBytes, randomUUID } from 'node:crypto';
import pg from 'pg';
import { ANSWER, DAY_MS, newClaim } from './requests.js';
import { openStore } from './store.js';

export interface SentStatement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** What the store sends for one claim and for its completion, with the parts that differ from one to the next. */
export interface SentStatements {
  readonly claim: SentStatement;
  readonly complete: SentStatement;
  readonly recordKey: string;
  readonly claimToken: string;
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * Listens to the store's own connection: the statements that are timed bare are the ones that it
 * sends, whatever they look like in the version under test.
 */
export async function learnStatements(url: string): Promise<SentStatements> {
  const { store, close } = await openStore(url, 'idempotency_learn');
  const sent: SentStatement[] = [];
  const prototype = pg.Client.prototype as unknown as { query: (this: pg.Client, ...args: unknown[]) => unknown };
  const { query } = prototype;
  prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [first] = args as [Partial<SentStatement> | undefined];
    if (typeof first?.text === 'string' && first.values) sent.push({ text: first.text, values: first.values });
    return query.apply(this, args);
  };
  const request = newClaim();
  const during = async (what: string, work: () => Promise<unknown>): Promise<SentStatement> => {
    sent.length = 0;
    await work();
    if (sent.length !== 1) throw new Error(`The store sent ${sent.length} statements for ${what}`);
    return sent[0]!;
  };
  try {
    const claim = await during('a claim', () => store.claim(request));
    const complete = await during('a completion', () => store.complete(request, ANSWER, DAY_MS));
    return { claim, complete, recordKey: request.recordKey, claimToken: request.claimToken };
  } finally {
    prototype.query = query;
    await close();
  }
}

/** The values of the next pair: another record, another claim. */
export function nextPair(learnt: SentStatements): { claim: unknown[]; complete: unknown[] } {
  const recordKey = randomBytes(32);
  const claimToken = randomUUID();
  const known = Buffer.from(learnt.recordKey, 'base64url');
  const renewed = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(renewed);
    if (Buffer.isBuffer(value)) return withBytes(value, known, recordKey);
    if (value === learnt.recordKey) return recordKey.toString('base64url');
    if (value === learnt.claimToken) return claimToken;
    return typeof value === 'string' && UUID.test(value) ? randomUUID() : value;
  };
  return { claim: learnt.claim.values.map(renewed), complete: learnt.complete.values.map(renewed) };
}

/** The key alone, or within an array that is sent as its bytes. */
function withBytes(value: Buffer, known: Buffer, other: Buffer): Buffer {
  const at = value.indexOf(known);
  if (at < 0) return value;
  const copy = Buffer.from(value);
  other.copy(copy, at);
  return copy;
}
