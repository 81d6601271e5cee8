import { from, isObservable, Observable } from 'rxjs';

/**
 * The events of an `@Sse()` handler, whatever it returned. Nest itself takes Observables only: an async
 * generator would go out as one empty event, and its source never be asked.
 */
export function eventsOf(emitted: Observable<unknown>): Observable<unknown> {
  // By hand: `mergeMap` would make and take down an Observable for each event that is one already.
  return new Observable((subscriber) => {
    let open = 1;
    const error = (failure: unknown): void => subscriber.error(failure);
    const complete = (): void => {
      if ((open -= 1) === 0) subscriber.complete();
    };
    const outer = emitted.subscribe({
      next: (value) => {
        if (!isAsyncIterable(value)) return subscriber.next(value);
        open += 1;
        subscriber.add(from(messagesOf(value)).subscribe({ next: (event) => subscriber.next(event), error, complete }));
      },
      error,
      complete,
    });
    subscriber.add(outer);
  });
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
