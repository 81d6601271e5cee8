import type { StreamPage, StreamRef } from '../../../lib/core/event-log.js';
import type { ClaimRequest, ClaimResult } from '../../../lib/core/store.js';
import { Mutable, type Mutant } from './mutable.js';

/** A memory store that hands out pages which are not quite those of the log. */
abstract class Misread extends Mutable {
  override readonly events = this.log((inner) => ({
    read: async (stream, after, maxBytes) => {
      const found = await inner.read(stream, after, maxBytes);
      return found && this.misread(found, maxBytes);
    },
  }));

  protected abstract misread(page: StreamPage, maxBytes: number): StreamPage;
}

/** Bugs of `read`, and of what claims tell of a stream. */
export const READING_MUTANTS: Readonly<Record<string, Mutant>> = {
  'read does not look at the attempt': {
    noticedBy: /a takeover begins the stream anew/,
    Store: class extends Mutable {
      override readonly events = this.log((inner) => ({
        read: (stream, after, maxBytes) => {
          const attempt = this.record(stream.recordKey)?.attempt ?? stream.attempt;
          return inner.read({ ...stream, attempt }, after, maxBytes);
        },
      }));
    },
  },
  'read does not look at the record id': {
    noticedBy: /another record id or attempt is not there/,
    Store: class extends Mutable {
      override readonly events = this.log((inner) => ({
        read: (stream, after, maxBytes) => {
          const recordId = this.record(stream.recordKey)?.recordId ?? stream.recordId;
          return inner.read({ ...stream, recordId }, after, maxBytes);
        },
      }));
    },
  },
  'read finds what its record has left behind': {
    noticedBy: /a stream is gone with its record/,
    Store: class extends Mutable {
      private readonly seen = new Map<string, StreamPage>();

      override readonly events = this.log((inner) => {
        const keyOf = ({ recordId, attempt }: StreamRef) => `${recordId} ${attempt}`;
        return {
          append: async (claim, batch, leaseMs) => {
            const result = await inner.append(claim, batch, leaseMs);
            const record = this.record(claim.recordKey);
            const page = record && (await inner.read(record, 0, Infinity));
            if (record && page) this.seen.set(keyOf(record), page);
            return result;
          },
          read: async (stream, after, maxBytes) =>
            (await inner.read(stream, after, maxBytes)) ??
            (this.record(stream.recordKey)?.recordId === stream.recordId ? undefined : this.seen.get(keyOf(stream))),
        };
      });
    },
  },
  'a page drops the item that no longer fits': {
    noticedBy: /a page has at most the bytes that are asked for/,
    Store: class extends Misread {
      protected misread(page: StreamPage): StreamPage {
        // Fetched one more than fits, and thrown it away after the cursor had moved past it.
        const last = page.items.at(-1);
        const isCut = last && last.seq < page.tail && page.items.length > 1;
        return isCut ? { ...page, items: page.items.toSpliced(-2, 1) } : page;
      }
    },
  },
  'a page is larger than it may be': {
    noticedBy: /a page has at most the bytes that are asked for/,
    Store: class extends Mutable {
      override readonly events = this.log((inner) => ({
        read: (stream, after, maxBytes) => inner.read(stream, after, maxBytes * 2),
      }));
    },
  },
  'a page is empty where its first item is larger than it may be': {
    noticedBy: /a page has at most the bytes .* and at least one item/,
    Store: class extends Misread {
      protected misread(page: StreamPage, maxBytes: number): StreamPage {
        return (page.items[0]?.bytes.byteLength ?? 0) > maxBytes ? { ...page, items: [] } : page;
      }
    },
  },
  'a page begins with the item at the cursor': {
    noticedBy: /a page begins after any cursor/,
    Store: class extends Mutable {
      override readonly events = this.log((inner) => ({
        read: (stream, after, maxBytes) => inner.read(stream, Math.max(0, after - 1), maxBytes),
      }));
    },
  },
  'the tail is that of the page': {
    noticedBy: /a page tells the tail of the log/,
    Store: class extends Misread {
      protected misread(page: StreamPage): StreamPage {
        return { ...page, tail: page.items.at(-1)?.seq ?? page.tail };
      }
    },
  },
  'the end of a stream is not told': {
    noticedBy: /a stream that has come to its end, failed, says so/,
    Store: class extends Misread {
      protected misread({ end: _end, ...page }: StreamPage): StreamPage {
        return page;
      }
    },
  },
  'every end is a complete one': {
    noticedBy: /a stream that has come to its end, truncated, says so/,
    Store: class extends Misread {
      protected misread(page: StreamPage): StreamPage {
        return page.end ? { ...page, end: 'complete' } : page;
      }
    },
  },
  'an interrupted stream passes for a complete one': {
    noticedBy: /a stream is interrupted, with all that was recorded/,
    Store: class extends Misread {
      protected misread(page: StreamPage): StreamPage {
        return page.state === 'interrupted' ? { ...page, state: 'ended', end: 'complete' } : page;
      }
    },
  },
  'a stream is live until somebody writes that it is not': {
    noticedBy: /a stream is interrupted, .* once its lease is over/,
    Store: class extends Mutable {
      override readonly events = this.log((inner) => ({
        read: async (stream, after, maxBytes) => {
          const found = await inner.read(stream, after, maxBytes);
          const live = this.record(stream.recordKey)?.state === 'in_progress';
          return found && live ? { ...found, state: 'live' } : found;
        },
      }));
    },
  },
  'the head is lost with the first batch': {
    noticedBy: /the head is kept/,
    Store: class extends Misread {
      protected misread(page: StreamPage): StreamPage {
        return page.items[0]?.seq === 1 ? page : { ...page, head: { status: 200, headers: [] } };
      }
    },
  },
  'a stream is told before it has items': {
    noticedBy: /a running stream is told by claim and find once it has items/,
    Store: class extends Mutable {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const result = await super.claim(request);
        const record = this.record(request.recordKey);
        if (result.kind !== 'in_progress' || !record) return result;
        const { recordKey, recordId, attempt } = record;
        return { ...result, stream: { recordKey, recordId, attempt } };
      }
    },
  },
};
