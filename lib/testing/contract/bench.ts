import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { Claim, ClaimRef, KeptAnswer, RecordedAnswer, RecordView } from '../../core/record.js';
import type { ClaimRequest, ClaimResult, IdempotencyStore } from '../../core/store.js';

/** A store on the bench, and what the suite may do around it. */
export interface StoreUnderTest {
  /** The store, started. */
  readonly store: IdempotencyStore;
  /**
   * A second client of the same backend, as another process would have it; closed by `clean`.
   * Absent: races run against the one store.
   */
  another?(): Promise<IdempotencyStore>;
  /**
   * Moves the clock that the store reads by `ms` milliseconds. Given: leases and retentions are
   * checked to the millisecond. Absent: the suite waits for them, none longer than two seconds.
   */
  advance?(ms: number): Promise<void> | void;
  /** Called after each case: gives back what the factory made. */
  clean?(): Promise<void>;
}

/** The parts of the port that a store may do without, and whose cases then do not hold for it. */
export type OptionalPart = 'events' | 'steps' | 'requestCancel';

/** One group of cases; a case's title says what holds. */
export interface CaseGroup {
  readonly title: string;
  /** The member that a store may do without. */
  readonly needs?: OptionalPart;
  readonly cases: Readonly<Record<string, (bench: Bench) => Promise<void>>>;
}

/** A lease or retention that a case means to see the end of. */
export const SHORT_MS = 40;
/** The same, where it must outlast a few calls on a busy machine before its end is awaited. */
export const LASTING_MS = 1_000;
/** Added to every real wait: a timer may fire early, and the store's clock may count in whole milliseconds. */
const WAIT_MARGIN_MS = 30;
/** Two times of one record, written in one statement, differ from what was asked by rounding to milliseconds only. */
export const ROUNDING_MS = 2;

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/** A store, one fresh record key, and the short words in which the cases are written. */
export class Bench {
  /** The key of the case. Nobody else has it, so that cases can share a database. */
  readonly recordKey = newRecordKey();
  private second: IdempotencyStore | undefined;

  constructor(private readonly subject: StoreUnderTest) {}

  get store(): IdempotencyStore {
    return this.subject.store;
  }

  /** Whether time stands still but for {@link pass}, so that ends can be checked to the millisecond. */
  get exact(): boolean {
    return this.subject.advance !== undefined;
  }

  /** The second client; the same one throughout a case. */
  async other(): Promise<IdempotencyStore> {
    this.second ??= await (this.subject.another?.() ?? this.store);
    return this.second;
  }

  async close(): Promise<void> {
    await this.subject.clean?.();
  }

  /** A claim request with a new token: lease a minute, retention an hour, kept when abandoned, no takeover. */
  request(changes: Partial<ClaimRequest> = {}): ClaimRequest {
    return {
      recordKey: this.recordKey,
      operation: 'POST /charges',
      fingerprint: 'fingerprint-1',
      claimToken: randomUUID(),
      leaseMs: MINUTE_MS,
      retentionMs: HOUR_MS,
      keepAbandoned: true,
      takeOver: false,
      ...changes,
    };
  }

  /** Claims, and insists on this kind of answer. */
  async asks<K extends ClaimResult['kind']>(
    kind: K,
    changes?: Partial<ClaimRequest>,
    store: IdempotencyStore = this.store,
  ): Promise<Extract<ClaimResult, { kind: K }>> {
    const result = await store.claim(this.request(changes));
    assert.equal(result.kind, kind, 'the answer to the claim');
    return result as Extract<ClaimResult, { kind: K }>;
  }

  /** Claims, and insists on winning. */
  async claim(changes?: Partial<ClaimRequest>, store?: IdempotencyStore): Promise<Claim> {
    return (await this.asks('claimed', changes, store)).claim;
  }

  /** Lets `ms` milliseconds go by on the store's clock (at least; exactly on a fake clock). */
  async pass(ms: number): Promise<void> {
    if (this.subject.advance) await this.subject.advance(ms);
    else await sleep(ms + WAIT_MARGIN_MS);
  }

  /**
   * Ends a live claim's lease. By a short renewal rather than by a short claim, so that a slow
   * machine does not end it before the case has done what needs a live one.
   */
  async lapse(claim: ClaimRef): Promise<void> {
    assert.equal(await this.store.renew(claim, SHORT_MS), 'written');
    await this.pass(SHORT_MS);
  }

  /** A claim whose lease has ended without an outcome. */
  async lapsed(changes?: Partial<ClaimRequest>): Promise<Claim> {
    const claim = await this.claim(changes);
    await this.lapse(claim);
    return claim;
  }

  /** A claim that has completed. */
  async completed(changes?: Partial<ClaimRequest>, answer: RecordedAnswer = textAnswer('first')): Promise<Claim> {
    const request = this.request(changes);
    const claim = await this.claim(request);
    assert.equal(await this.store.complete(claim, answer, request.retentionMs), 'written');
    return claim;
  }

  /** A claim that ran and was released. */
  async released(changes?: Partial<ClaimRequest>): Promise<Claim> {
    const claim = await this.claim(changes);
    assert.equal(await this.store.release(claim, { began: true }), 'written');
    return claim;
  }

  /** The record as it stands; there must be one. */
  async view(recordKey: string = this.recordKey): Promise<RecordView> {
    const view = await this.store.find(recordKey);
    assert.ok(view, 'there is a record');
    return view;
  }

  /** Runs `calls`, and insists that each is refused and that the record is then as it was. */
  async changesNothing(calls: Readonly<Record<string, () => Promise<unknown>>>, refusal: unknown): Promise<void> {
    const before = flat(await this.store.find(this.recordKey));
    for (const [what, call] of Object.entries(calls)) {
      assert.equal(await call(), refusal, what);
      assert.deepEqual(flat(await this.store.find(this.recordKey)), before, `the record after: ${what}`);
    }
  }

  /** Every write that a claim can make, for {@link changesNothing}. */
  writesOf(claim: ClaimRef, store: IdempotencyStore = this.store) {
    return {
      renew: () => store.renew(claim, HOUR_MS),
      complete: () => store.complete(claim, textAnswer('too late'), HOUR_MS),
      'release, began': () => store.release(claim, { began: true }),
      'release, not begun': () => store.release(claim, { began: false }),
      'abandon, began': () => store.abandon(claim, { began: true }),
      'abandon, not begun': () => store.abandon(claim, { began: false }),
    };
  }
}

/** A record key as the engine makes them. */
export function newRecordKey(): string {
  return randomBytes(32).toString('base64url');
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A small kept answer, to be told from another by its text. */
export function textAnswer(text: string, changes: Partial<KeptAnswer> = {}): KeptAnswer {
  const headers = [['content-type', 'text/plain']] as const;
  return { kept: true, status: 200, headers, body: new TextEncoder().encode(text), ...changes };
}

/** A view in plain values that compare and print well, whatever realm or class its parts come from. */
export function flat(view: RecordView | undefined): unknown {
  return view && (JSON.parse(JSON.stringify({ ...view, answer: view.answer && flatAnswer(view.answer) })) as unknown);
}

function flatAnswer(answer: RecordedAnswer): object {
  if (answer.kept !== true) return answer;
  const { body } = answer;
  assert.ok(ArrayBuffer.isView(body), 'the body is a Uint8Array');
  return { ...answer, body: `${body.byteLength} bytes, sha256 ${createHash('sha256').update(body).digest('hex')}` };
}

/** Insists that two answers are the same, byte for byte. */
export function sameAnswer(actual: RecordedAnswer | undefined, expected: RecordedAnswer): void {
  assert.ok(actual, 'there is an answer');
  assert.deepEqual(JSON.parse(JSON.stringify(flatAnswer(actual))), JSON.parse(JSON.stringify(flatAnswer(expected))));
}

/** Insists on `expected` milliseconds, but for rounding. */
export function about(actual: number, expected: number, what: string, tolerance = ROUNDING_MS): void {
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what}: expected ${expected} ms, not ${actual} ms`);
}

/** How often each kind occurs. */
export function count(results: readonly ClaimResult[]): Partial<Record<ClaimResult['kind'], number>> {
  const counts: Partial<Record<ClaimResult['kind'], number>> = {};
  for (const { kind } of results) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}
