import type { ClaimRef, RecordedAnswer } from '../../core/record.js';
import type { ClaimRequest } from '../../core/store.js';
import { byteaArray } from './bytea-array.js';
import type { PostgresCalls } from './postgres-calls.js';
import type { Statement } from './postgres.sql.js';
import { answerValues } from './record-row.js';
import { StatementBatch } from './statement-batch.js';

/** So long may a row that somebody holds keep a batch; longer, and the others go out without it. */
const PATIENCE_MS = 100;

export interface ClaimItem {
  readonly key: Buffer;
  readonly request: ClaimRequest;
  /** The record's, if the claim makes a new one. */
  readonly recordId: string;
}

export interface CompletionItem {
  readonly key: Buffer;
  readonly claimToken: string;
  readonly retentionMs: number;
  readonly answer: readonly unknown[];
}

export function completionItem(
  key: Buffer,
  { claimToken }: ClaimRef,
  answer: RecordedAnswer,
  retentionMs: number,
): CompletionItem {
  return { key, claimToken, retentionMs: Math.round(retentionMs), answer: answerValues(answer) };
}

function byKey(a: { readonly key: Buffer }, b: { readonly key: Buffer }): number {
  return Buffer.compare(a.key, b.key);
}

/** What is no column of the record, and so is the same for all claims of a statement. */
function claimGroup({ request: { leaseMs, takeOver } }: ClaimItem): string {
  return `${Math.round(leaseMs)} ${takeOver}`;
}

/** The values of `BatchesSql.claim`. Without patience it is as long as the connection's settings say. */
export function claimValues(items: readonly ClaimItem[], patienceMs?: number): readonly unknown[] {
  const requests = items.map(({ request }) => request);
  const { leaseMs, takeOver } = requests[0]!;
  return [
    byteaArray(items.map(({ key }) => key)),
    requests.map(({ claimToken }) => claimToken),
    requests.map(({ fingerprint }) => fingerprint),
    requests.map(({ operation }) => operation),
    requests.map(({ retentionMs }) => Math.round(retentionMs)),
    requests.map(({ keepAbandoned }) => keepAbandoned),
    items.map(({ recordId }) => recordId),
    ...[Math.round(leaseMs), takeOver === 'unless_kept' ? null : takeOver, patienceMs ?? null],
  ];
}

/** The values of `BatchesSql.complete`. */
export function completionValues(items: readonly CompletionItem[], patienceMs?: number): readonly unknown[] {
  const column = (index: number): unknown[] => items.map(({ answer }) => answer[index]);
  return [
    byteaArray(items.map(({ key }) => key)),
    items.map(({ claimToken }) => claimToken),
    items.map(({ retentionMs }) => retentionMs),
    ...[column(0), column(1), byteaArray(column(2) as (Buffer | null)[]), column(3), column(4), column(5)],
    patienceMs ?? null,
  ];
}

function answerBytes({ answer }: CompletionItem): number {
  const body = answer[2];
  return Buffer.isBuffer(body) ? body.byteLength : 0;
}

/** So many of the store's connections each kind of statement may have at the same time: half. The rest waits, and goes out together. */
function share(poolSize: number): number {
  return Math.max(1, Math.floor(poolSize / 2));
}

export interface AppendItem {
  readonly key: Buffer;
  readonly claimToken: string;
  readonly leaseMs: number;
  readonly firstSeq: number;
  readonly head: string | null;
  readonly sizes: readonly number[];
  readonly data: Buffer;
}

/** The values of `LogsSql.append`. */
function appendValues(items: readonly AppendItem[], patienceMs?: number): readonly unknown[] {
  return [
    byteaArray(items.map(({ key }) => key)),
    items.map(({ claimToken }) => claimToken),
    items.map(({ leaseMs }) => leaseMs),
    items.map(({ firstSeq }) => firstSeq),
    items.map(({ head }) => head),
    items.map(({ firstSeq, sizes }) => firstSeq + sizes.length - 1),
    // As texts, because the arrays of an array must all have one length.
    items.map(({ sizes }) => `{${sizes.join(',')}}`),
    ...[byteaArray(items.map(({ data }) => data)), patienceMs ?? null],
  ];
}

export function appendBatch(calls: PostgresCalls, poolSize: number, sql: () => Statement): StatementBatch<AppendItem> {
  return new StatementBatch<AppendItem>({
    ...{ underWay: share(poolSize), order: byKey },
    // Of two rows for one record the statement would write any one, and the other's claim look lost.
    apart: ({ key }) => key.toString('latin1'),
    bytes: ({ data }) => data.byteLength,
    send: async (items, end) => calls.sendForMany(sql(), appendValues(items, PATIENCE_MS), end),
    sendAlone: async (item, end) => calls.send(sql(), appendValues([item]), end),
  });
}

export function claimBatch(calls: PostgresCalls, poolSize: number, sql: () => Statement): StatementBatch<ClaimItem> {
  return new StatementBatch({
    ...{ underWay: share(poolSize), order: byKey, group: claimGroup },
    send: async (items, end) => calls.sendForMany(sql(), claimValues(items, PATIENCE_MS), end),
    sendAlone: async (item, end) => calls.send(sql(), claimValues([item]), end),
  });
}

export function completionBatch(
  calls: PostgresCalls,
  poolSize: number,
  sql: () => Statement,
): StatementBatch<CompletionItem> {
  return new StatementBatch({
    ...{ underWay: share(poolSize), order: byKey, bytes: answerBytes },
    send: async (items, end) => calls.sendForMany(sql(), completionValues(items, PATIENCE_MS), end),
    sendAlone: async (item, end) => calls.send(sql(), completionValues([item]), end),
  });
}
