import { Bell } from '../bell.js';
import { monotonicNow, pause } from '../clock.js';
import type { StreamEnd, StreamHead, StreamItem, StreamPage, StreamRef } from '../event-log.js';
import type { IdempotencyStore } from '../store.js';
import type { LiveFeed } from './live-feed.js';

/**
 * How a stream ends for a follower. `gone`: a later attempt has taken its place, or its record was removed; it may have
 * had more items. `unreadable`: the store stayed away for too long.
 */
export type FollowerEnd = StreamEnd | 'interrupted' | 'gone' | 'unreadable';

/** What a follower gets, in this order: begin, items, items, …, end. No begin where the stream is gone before it was seen. */
export type StreamPart =
  | {
      readonly kind: 'begin';
      readonly head: StreamHead;
      readonly standing: 'live' | FollowerEnd;
      readonly tail: number;
    }
  | { readonly kind: 'items'; readonly items: readonly StreamItem[] }
  | { readonly kind: 'end'; readonly end: FollowerEnd; readonly lastSeq: number };

const PAGE_BYTES = 256 * 1024;
const FIRST_POLL_MS = 50;
const LONGEST_POLL_MS = 1_000;
const RETRY_MS = 100;

/** A store that is away for longer than this is not waited for: the client may come back with its cursor. */
const GIVE_UP_AFTER_MS = 60_000;

/** As above, where the producer was in this process and is gone: there is little to wait for, and a shutdown waits for it. */
const GIVE_UP_ON_REST_AFTER_MS = 3_000;

export interface Following {
  readonly store: IdempotencyStore;
  readonly stream: StreamRef;
  /** Items up to and with this number are not wanted. */
  readonly after: number;
  /** The producer's feed, where it is in this process. */
  readonly feed: LiveFeed | undefined;
  readonly left: AbortSignal;
}

/**
 * Reads a stream from a cursor to its end: what is recorded, then live. Whoever consumes the parts
 * sets the pace, and holds up nobody else. Woken by hints and by the feed; a poll is the floor.
 */
export async function* followStream(following: Following): AsyncGenerator<StreamPart, void, void> {
  const { store, stream, feed, left } = following;
  const bell = new Bell();
  const ring = (): void => bell.ring();
  // Subscribed before the first look, so that nothing can come between the look and the wait.
  const unsubscribe = feed ? feed.subscribe(ring) : store.subscribe?.(stream.recordKey, ring);
  left.addEventListener('abort', ring, { once: true });
  let cursor = following.after;
  let poll = FIRST_POLL_MS;
  let begun = false;
  try {
    while (!left.aborted) {
      const page = pageOfFeed(feed, cursor) ?? (await readPage(following, cursor));
      if (page === 'unreadable') return yield { kind: 'end', end: 'unreadable', lastSeq: cursor };
      if (!page) return yield { kind: 'end', end: await endWithoutLog(following), lastSeq: cursor };
      if (!begun) {
        begun = true;
        yield { kind: 'begin', head: page.head, standing: standingOf(page), tail: page.tail };
      }
      if (page.items.length > 0) {
        yield { kind: 'items', items: page.items };
        cursor = page.items[page.items.length - 1]!.seq;
        poll = FIRST_POLL_MS;
        continue;
      }
      if (page.state !== 'live') {
        const end = standingOf(page);
        if (end !== 'live') yield { kind: 'end', end, lastSeq: cursor };
        return;
      }
      // Not beyond the lease: when it ends, the stream is interrupted, and no hint tells.
      await bell.wait(
        feed && feed.end === undefined ? LONGEST_POLL_MS : Math.min(poll, Math.max(1, page.leaseRemainingMs + 1)),
      );
      poll = Math.min(poll * 2, LONGEST_POLL_MS);
    }
  } finally {
    unsubscribe?.();
    left.removeEventListener('abort', ring);
  }
}

/** A record that was settled with another answer has no end of this stream. */
function standingOf(page: StreamPage): 'live' | StreamEnd | 'interrupted' {
  return page.state === 'ended' ? (page.end ?? 'interrupted') : page.state;
}

/** The producer may have lost its claim before anything was in the log; otherwise the log has been there, and was removed. */
async function endWithoutLog({ store, stream }: Following): Promise<'interrupted' | 'gone'> {
  const record = await store.find(stream.recordKey).catch(() => undefined);
  return record?.recordId === stream.recordId && record.attempt === stream.attempt ? 'interrupted' : 'gone';
}

/** The feed as a page; undefined where it does not hold what comes after the cursor. */
function pageOfFeed(feed: LiveFeed | undefined, cursor: number): StreamPage | undefined {
  const items = feed?.after(cursor);
  if (!feed || !items) return undefined;
  // Of an interrupted stream the log may have more: what was appended when the reply was lost, and the claim with it.
  if (feed.end === 'interrupted' && items.length === 0) return undefined;
  const tail = cursor + items.length;
  const { head, end } = feed;
  if (end === undefined || end === 'interrupted') return { state: 'live', head, tail, items, leaseRemainingMs: 0 };
  return { state: 'ended', end, head, tail, items, leaseRemainingMs: 0 };
}

async function readPage(
  { store, stream, left, feed }: Following,
  cursor: number,
): Promise<StreamPage | undefined | 'unreadable'> {
  const since = monotonicNow();
  for (;;) {
    try {
      return await store.events!.read(stream, cursor, PAGE_BYTES);
    } catch {
      // The store is away for a moment; the stream may well go on.
    }
    const patience = feed?.end === 'interrupted' ? GIVE_UP_ON_REST_AFTER_MS : GIVE_UP_AFTER_MS;
    if (left.aborted || monotonicNow() - since > patience) return 'unreadable';
    await pause(RETRY_MS);
  }
}
