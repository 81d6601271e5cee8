import { edit, type Mutant } from './mutant.js';

const RUN = 'lib/http/http-run.ts';
const TRANSPORT = 'lib/http/http-transport.ts';
const REPLAY =
  'this.wire.replace(answer.status ?? this.exchange.presetStatus, [...answer.headers, REPLAYED], answer.body);';

/** Bugs in what is recorded and replayed, and when. */
export const answerMutants: readonly Mutant[] = [
  {
    name: 'the answer goes out before its record is written',
    ...{ store: 'redis', mode: 'block', faults: ['proxy_blackhole', 'store_stop'], caughtBy: ['I8', 'I16'] },
    edits: [
      edit(
        'lib/core/engine.ts',
        'const settled = written ?? (await settleRun(this.store, active, outcome, call.policy));',
        `const settled = 'written';
    void settleRun(this.store, active, outcome, call.policy);`,
      ),
    ],
  },
  {
    name: 'a refusal below 500 is not recorded',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I1', 'I6'] },
    edits: [edit('lib/core/record-when.ts', 'status < 500 && !RELEASED_STATUSES.has(status)', 'status < 400')],
  },
  {
    name: 'an answer that JSON cannot hold is forgotten, and runs again',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I1', 'I6'] },
    edits: [
      edit(
        RUN,
        `return { kind: 'record', answer: notKept('not_serialisable', null) };`,
        `return { kind: 'release', began: true };`,
      ),
    ],
  },
  {
    name: 'an answer that is too large is forgotten, and runs again',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I1', 'I6'] },
    edits: [
      edit(
        RUN,
        'return this.verdict(held.status, () => answerOf(held, this.route.policy.maxRecordBytes));',
        `if (held.body === undefined) return { kind: 'release', began: true };
    return this.verdict(held.status, () => answerOf(held, this.route.policy.maxRecordBytes));`,
      ),
    ],
  },
  {
    name: 'a replay is parsed and written anew',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I3'] },
    edits: [
      edit(
        TRANSPORT,
        REPLAY,
        `const body = Buffer.from(JSON.stringify(JSON.parse(Buffer.from(answer.body).toString())));
    this.wire.replace(answer.status, [...answer.headers, REPLAYED], body);`,
      ),
    ],
  },
  {
    name: 'a replay has the status of the route',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I3'] },
    edits: [edit(TRANSPORT, REPLAY, REPLAY.replace('answer.status ?? ', ''))],
  },
  {
    name: 'a replay from memory outlives its record',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I3', 'I8'] },
    edits: [
      edit(
        'lib/core/replay-cache.ts',
        'Math.min(monotonicNow() + this.limits.maxAgeMs, recordEndsAt)',
        'monotonicNow() + 60_000',
      ),
    ],
  },
  {
    name: 'a failure in the background is left to the process',
    ...{ store: 'redis', mode: 'block', faults: ['store_stop', 'proxy_refuse'], caughtBy: ['I11'] },
    edits: [
      edit(
        'lib/core/engine.ts',
        'undoClaim(this.store, request);',
        'void this.store.release(request, { began: false });',
      ),
    ],
  },
];
