import { formatCursor } from '../core/streams/cursor.js';
import type { StreamHead, StreamRef } from '../core/event-log.js';
import type { FollowerEnd, StreamPart } from '../core/streams/follower.js';
import type { RecordedHeader } from '../core/record.js';
import type { ResponseWire } from './response-wire.js';
import { endFrame } from './sse-frames.js';

/** What a client is told of a stream that did not end by itself. */
const ENDS: Readonly<Record<Exclude<FollowerEnd, 'complete'>, { name: string; reason: string; detail: string }>> = {
  interrupted: {
    name: 'interrupted',
    reason: 'producer_lost',
    detail: 'The producer of this stream has ended without finishing it. What was recorded ends here.',
  },
  gone: {
    name: 'interrupted',
    reason: 'stream_gone',
    detail:
      'Another attempt has taken the place of this stream, or its record was removed. There may have been more of it.',
  },
  failed: { name: 'failed', reason: 'source_failed', detail: 'The source of this stream has failed.' },
  cancelled: { name: 'cancelled', reason: 'cancelled', detail: 'The stream was cancelled.' },
  truncated: { name: 'truncated', reason: 'too_large', detail: 'The stream has outgrown what may be recorded.' },
  timeout: { name: 'timeout', reason: 'too_long', detail: 'The stream has taken longer than it may.' },
  unreadable: {
    name: 'interrupted',
    reason: 'store_unavailable',
    detail: 'The record cannot be read now. Resume later.',
  },
};

/** How an event stream is sent on a replay; the first time Nest has said so itself. */
const EVENT_STREAM_HEADERS: readonly RecordedHeader[] = [
  ['cache-control', 'private, no-cache, no-store, must-revalidate, max-age=0, no-transform'],
  ['x-accel-buffering', 'no'],
];

/** Values of the header; other ends are `failed` there. */
const STANDINGS: ReadonlySet<string> = new Set(['live', 'complete', 'interrupted', 'failed', 'cancelled']);

export interface Delivery {
  readonly wire: ResponseWire;
  readonly stream: StreamRef;
  readonly parts: AsyncGenerator<StreamPart, void, void>;
  /** Whether this is the client whose request runs the source, and gets the head that the application wrote. */
  readonly first: boolean;
  /** Called in place of any answer, once, where there is nothing to send: the stream is gone, unreadable, or shorter than the cursor. */
  readonly refuse: (why: 'gone' | 'unreadable' | 'beyond', after: number) => void;
  /** Called in place of any answer where the client has seen a complete stream to its end; it is sent an empty one unless given. */
  readonly seenAll?: (() => void) | undefined;
  readonly after: number;
}

/** Sends a stream to one client, at the client's pace, from its cursor to its end. */
export async function deliver({ wire, stream, parts, first, refuse, seenAll, after }: Delivery): Promise<void> {
  let isEventStream = false;
  let begun = false;
  for await (const part of parts) {
    switch (part.kind) {
      case 'begin':
        if (after > part.tail) return refuse('beyond', after);
        if (seenAll && part.standing === 'complete' && after > 0 && after === part.tail) return seenAll();
        begun = true;
        isEventStream = isEvents(part.head);
        begin(wire, part.head, part.standing, first, isEventStream);
        break;
      case 'items':
        await wire.sendPiece(
          part.items.length === 1 ? part.items[0]!.bytes : Buffer.concat(part.items.map(({ bytes }) => bytes)),
        );
        break;
      case 'end':
        if (!begun) return refuse(part.end === 'unreadable' ? 'unreadable' : 'gone', after);
        if (part.end === 'complete') {
          wire.endStream();
        } else if (isEventStream) {
          const { name, ...data } = ENDS[part.end];
          const id = formatCursor(stream, part.lastSeq);
          const code = `stream_${name}`;
          // The member by which the SDKs of model providers know an error in the middle of a stream.
          const error = { message: data.detail, type: 'idempotency_error', code, param: null };
          await wire.sendPiece(Buffer.from(endFrame(name, id, { code, ...data, lastEventId: id, error })));
          wire.endStream();
        } else {
          // A body of bytes has no way to say that it is not whole but to have no end.
          wire.cut();
        }
        return;
    }
  }
  // The client has left, or this process is about to: then it resumes at another one.
  if (wire.isClientGone) return;
  if (begun) wire.cut();
  else refuse('unreadable', after);
}

function begin(wire: ResponseWire, head: StreamHead, standing: string, first: boolean, isEventStream: boolean): void {
  const state: RecordedHeader = ['idempotency-stream', STANDINGS.has(standing) ? standing : 'failed'];
  if (first) return wire.beginStream(undefined, [state]);
  wire.beginStream(head.status, [
    ...head.headers,
    ...(isEventStream ? EVENT_STREAM_HEADERS : []),
    ['idempotent-replayed', 'true'],
    state,
  ]);
}

function isEvents(head: StreamHead): boolean {
  return head.headers.some(([name, value]) => name === 'content-type' && value.startsWith('text/event-stream'));
}
