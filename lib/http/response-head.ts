import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { RecordedHeader } from '../core/record.js';

/** A head that the application has written with `writeHead`. */
export interface WrittenHead {
  readonly status: number;
  readonly reason: string | undefined;
  readonly headers: OutgoingHttpHeaders;
}

/**
 * Reads the arguments of `writeHead` in all their forms. Throws what Node would throw, and when it
 * would: a head that cannot be sent must not be recorded.
 */
export function readHead([status, second, third]: readonly unknown[]): WrittenHead {
  const reason = typeof second === 'string' ? second : undefined;
  checkStatus(status);
  if (reason !== undefined) validateHeaderValue('statusMessage', reason);
  const given = reason === undefined ? (second ?? third) : third;
  return {
    status: Math.trunc(Number(status)),
    reason,
    headers: headersOf(given as OutgoingHttpHeaders | readonly unknown[] | undefined),
  };
}

export function checkStatus(status: unknown): void {
  const number = Math.trunc(Number(status));
  if (number >= 100 && number <= 999) return;
  const error = new RangeError(`Invalid status code: ${String(status)}`);
  throw Object.assign(error, { code: 'ERR_HTTP_INVALID_STATUS_CODE' });
}

/** Headers as an object, a flat list of names and values, or a list of pairs; a value may be a list itself. */
function headersOf(given: OutgoingHttpHeaders | readonly unknown[] | undefined): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  const pairs = Array.isArray(given) ? pairsOf(given) : Object.entries(given ?? {});
  for (const [field, value] of pairs as [string, string | string[]][]) {
    validateHeaderName(field);
    validateHeaderValue(field, value as string);
    const name = field.toLowerCase();
    const before = Array.isArray(given) ? headers[name] : undefined;
    headers[name] = before === undefined ? value : [before, value].flat().map(String);
  }
  return headers;
}

function pairsOf(list: readonly unknown[]): (readonly [unknown, unknown])[] {
  if (Array.isArray(list[0])) return list as [unknown, unknown][];
  const pairs: [unknown, unknown][] = [];
  for (let i = 0; i + 1 < list.length; i += 2) pairs.push([list[i], list[i + 1]]);
  return pairs;
}

/** Sets headers of which a name may occur more than once. */
export function setHeaders(response: ServerResponse, headers: readonly RecordedHeader[]): void {
  for (let i = 0; i < headers.length; i += 1) {
    const [name] = headers[i]!;
    if (headers.findIndex(([other]) => other === name) !== i) continue; // set with the first of its name
    const values = headers.filter(([other]) => other === name).map(([, value]) => value);
    response.setHeader(name, values.length === 1 ? values[0]! : values);
  }
}
