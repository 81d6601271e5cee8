import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { RecordedHeader } from '../core/record.js';

/** A head that the application has written with `writeHead`. */
export interface WrittenHead {
  readonly status: number;
  readonly reason: string | undefined;
  readonly headers: OutgoingHttpHeaders;
}

/** Reads the arguments of `writeHead` in all their forms. */
export function readHead([status, second, third]: readonly unknown[]): WrittenHead {
  const reason = typeof second === 'string' ? second : undefined;
  const given = reason === undefined ? (second ?? third) : third;
  return {
    status: Number(status),
    reason,
    headers: headersOf(given as OutgoingHttpHeaders | readonly unknown[] | undefined),
  };
}

/** Headers as an object, a flat list of names and values, or a list of pairs. */
function headersOf(given: OutgoingHttpHeaders | readonly unknown[] | undefined): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  if (!given) return headers;
  if (!Array.isArray(given)) {
    for (const [name, value] of Object.entries(given)) headers[name.toLowerCase()] = value as string | string[];
    return headers;
  }
  const flat = given.flat() as string[];
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = flat[i]!.toLowerCase();
    const before = headers[name];
    headers[name] =
      before === undefined ? flat[i + 1]! : [...(Array.isArray(before) ? before : [String(before)]), flat[i + 1]!];
  }
  return headers;
}

/** Sets headers of which a name may occur more than once. */
export function setHeaders(response: ServerResponse, headers: readonly RecordedHeader[]): void {
  const byName = new Map<string, string[]>();
  for (const [name, value] of headers) byName.set(name, [...(byName.get(name) ?? []), value]);
  for (const [name, values] of byName) response.setHeader(name, values.length === 1 ? values[0]! : values);
}
