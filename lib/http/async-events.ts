import { from, isObservable, mergeMap, of, type Observable } from 'rxjs';

/**
 * The events of an `@Sse()` handler, whatever it returned. Nest itself takes Observables only: an async
 * generator would go out as one empty event, and its source never be asked.
 */
export function eventsOf(emitted: Observable<unknown>): Observable<unknown> {
  return emitted.pipe(mergeMap((value) => (isAsyncIterable(value) ? from(messagesOf(value)) : of(value))));
}

async function* messagesOf(source: AsyncIterable<unknown>): AsyncGenerator {
  for await (const value of source) yield typeof value === 'object' && value !== null ? value : { data: value };
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !isObservable(value) &&
    typeof (value as { [Symbol.asyncIterator]?: unknown })[Symbol.asyncIterator] === 'function'
  );
}
