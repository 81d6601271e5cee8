import type { IncomingMessage } from 'node:http';
import {
  IdempotencyCursorInvalidError,
  IdempotencyInProgressError,
  IdempotencyResponseNotKeptError,
  IdempotencyStoreError,
  type IdempotencyError,
} from '../core/errors.js';
import { streamGoneError } from '../core/refusals.js';
import { parseCursor, type StreamCursor } from '../core/streams/cursor.js';

const PARAM = { param: 'Last-Event-ID' };

/**
 * The place from which a client resumes, or undefined where it has seen nothing yet.
 * @throws IdempotencyCursorInvalidError for an id that is none of ours
 */
export function readCursor(request: IncomingMessage): StreamCursor | undefined {
  const sent = request.headers['last-event-id'];
  if (sent === undefined || sent === '') return undefined;
  const cursor = typeof sent === 'string' ? parseCursor(sent) : undefined;
  if (cursor) return cursor;
  throw new IdempotencyCursorInvalidError('Last-Event-ID is no id of a stream of this service.', PARAM);
}

/** Why there is nothing to send to a client that follows a stream, from after the item `after`. */
export function refusalOf(why: 'gone' | 'unreadable' | 'beyond', after: number): IdempotencyError {
  switch (why) {
    case 'gone':
      // It was there a moment ago. Who has seen nothing of it may ask again, and gets what there is by then.
      if (after === 0) return new IdempotencyInProgressError('Another attempt has just begun. Ask again later.', 1);
      return streamGoneError() satisfies IdempotencyResponseNotKeptError;
    case 'unreadable':
      return new IdempotencyStoreError('The record of the stream cannot be read.');
    case 'beyond':
      return new IdempotencyCursorInvalidError('Last-Event-ID is beyond what is recorded of this stream.', PARAM);
  }
}
