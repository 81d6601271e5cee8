import { followStream, type StreamPart } from '../../../lib/core/streams/follower.js';
import { LiveFeed } from '../../../lib/core/streams/live-feed.js';
import { append, HEAD, numbered, refOf } from '../../../lib/testing/contract/stream-kit.js';
import { Bench } from '../../../lib/testing/contract/bench.js';
import type { Claim } from '../../../lib/core/record.js';
import { memoryStore } from '../../../lib/stores/memory/memory-store.js';
import { fakeClock } from '../../../lib/testing/index.js';

/** What the producer's process knows of a stream: its first items, and that the claim was lost. */
function feedOf(claim: Claim, items: number): LiveFeed {
  const feed = new LiveFeed(refOf(claim), HEAD);
  feed.publish(numbered(1, items).map((bytes, index) => ({ seq: index + 1, bytes })));
  feed.close('interrupted');
  return feed;
}

describe('a follower in the process of a producer whose claim was lost', () => {
  const bench = (): Bench => {
    const clock = fakeClock();
    return new Bench({ store: memoryStore({ clock }), advance: (ms) => clock.advance(ms) });
  };

  async function follow(b: Bench, claim: Claim, feed: LiveFeed, after = 0): Promise<string[]> {
    const left = new AbortController().signal;
    const parts = followStream({ store: b.store, stream: refOf(claim), after, feed, left });
    const got: string[] = [];
    for await (const part of parts) got.push(...told(part));
    return got;
  }

  function told(part: StreamPart): string[] {
    if (part.kind === 'items') return part.items.map(({ bytes }) => Buffer.from(bytes).toString());
    return part.kind === 'end' ? [`${part.end} after ${part.lastSeq}`] : [];
  }

  it('gets what was appended, though a later attempt has taken the log away', async () => {
    const b = bench();
    const claim = await b.claim({ leaseMs: 1_000 });
    await append(b.store, claim, 1, numbered(1, 3), { leaseMs: 1_000 });
    const feed = feedOf(claim, 3);
    await b.pass(1_001);
    const later = await b.store.claim(b.request({ recordKey: claim.recordKey, takeOver: true }));
    expect(later).toMatchObject({ kind: 'claimed', claim: { attempt: 2 } });

    expect(await follow(b, claim, feed)).toEqual(['item 1', 'item 2', 'item 3', 'gone after 3']);
    expect(await follow(b, claim, feed, 2)).toEqual(['item 3', 'gone after 3']);
  });

  it('is told of the interruption where nothing had come to be in the log', async () => {
    const b = bench();
    const claim = await b.claim({ leaseMs: 1_000 });
    const feed = feedOf(claim, 0);
    await b.pass(1_001);
    expect(await follow(b, claim, feed)).toEqual(['interrupted after 0']);

    await b.store.claim(b.request({ recordKey: claim.recordKey, takeOver: true }));
    expect(await follow(b, claim, feed)).toEqual(['gone after 0']);
  });

  it('gets also what the log has and the producer never heard of', async () => {
    const b = bench();
    const claim = await b.claim({ leaseMs: 1_000 });
    await append(b.store, claim, 1, numbered(1, 3), { leaseMs: 1_000 });
    await append(b.store, claim, 4, numbered(4, 4), { leaseMs: 1_000 });
    const feed = feedOf(claim, 3);
    await b.pass(1_001);

    expect(await follow(b, claim, feed)).toEqual(['item 1', 'item 2', 'item 3', 'item 4', 'interrupted after 4']);
  });
});
