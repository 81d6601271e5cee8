import { randomUUID } from 'node:crypto';
import { SharedLooks } from '../../../lib/core/shared-looks.js';
import type { ClaimRequest, ClaimResult } from '../../../lib/core/store.js';

const request = (changes: Partial<ClaimRequest> = {}): ClaimRequest => ({
  recordKey: 'record',
  operation: 'POST /charges',
  fingerprint: 'f',
  claimToken: randomUUID(),
  leaseMs: 30_000,
  retentionMs: 60_000,
  keepAbandoned: true,
  takeOver: false,
  ...changes,
});
const running: ClaimResult = { kind: 'in_progress', leaseRemainingMs: 7, runningMs: 3 };
const claimed = ({ recordKey, claimToken }: ClaimRequest): ClaimResult => ({
  kind: 'claimed',
  claim: { recordKey, claimToken, recordId: randomUUID(), attempt: 2, fencingToken: 2, tookOver: false },
});

/** A store whose answers are given by hand, in the order of the questions. */
function store() {
  const asked: { request: ClaimRequest; answer: (result: ClaimResult) => void; fail: (error: Error) => void }[] = [];
  const looks = new SharedLooks(
    (request) =>
      new Promise((answer, fail) => {
        asked.push({ request, answer, fail });
      }),
  );
  return { asked, looks };
}

const turn = (): Promise<void> => new Promise(setImmediate);

describe('looks of waiters of one record', () => {
  it('woken together, they ask once after the look that was under way, and all get the answer', async () => {
    const { asked, looks } = store();
    const first = looks.ask(request());
    const woken = Array.from({ length: 20 }, () => looks.ask(request()));
    asked[0]!.answer(running);
    await first;
    await turn();
    // What was asked before they were woken says nothing to them: they were woken for something newer.
    expect(asked).toHaveLength(2);
    asked[1]!.answer({ kind: 'reused' });
    expect(new Set((await Promise.all(woken)).map(({ kind }) => kind))).toEqual(new Set(['reused']));
    expect(asked).toHaveLength(2);
  });

  it('take what is final from a look that was under way', async () => {
    const { asked, looks } = store();
    const answers = [looks.ask(request()), looks.ask(request()), looks.ask(request())];
    asked[0]!.answer({ kind: 'reused' });
    expect(await Promise.all(answers)).toEqual([{ kind: 'reused' }, { kind: 'reused' }, { kind: 'reused' }]);
    expect(asked).toHaveLength(1);
  });

  it('give a claim to the one who asked, and to nobody else', async () => {
    const { asked, looks } = store();
    const before = looks.ask(request());
    const woken = [request(), request(), request()].map((one) => looks.ask(one));
    asked[0]!.answer(running);
    await before;
    await turn();
    asked[1]!.answer(claimed(asked[1]!.request));
    const kinds = (await Promise.all(woken)).map(({ kind }) => kind);
    expect(kinds).toEqual(['claimed', 'in_progress', 'in_progress']);
    expect(asked).toHaveLength(2);
  });

  it('ask for themselves where they ask for something else', async () => {
    const { asked, looks } = store();
    const others = [
      request(),
      request({ recordKey: 'other' }),
      request({ fingerprint: 'other' }),
      request({ takeOver: true }),
    ].map((one) => looks.ask(one));
    expect(asked).toHaveLength(4);
    asked.forEach(({ answer }) => answer(running));
    expect(await Promise.all(others)).toEqual([running, running, running, running]);
  });

  it('fail together, and the next one asks anew', async () => {
    const { asked, looks } = store();
    const failing = [looks.ask(request()), looks.ask(request())];
    asked[0]!.fail(new Error('away'));
    expect((await Promise.allSettled(failing)).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    const next = looks.ask(request());
    asked[1]!.answer(running);
    expect(await next).toBe(running);
  });
});
