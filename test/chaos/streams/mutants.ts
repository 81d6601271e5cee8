import type { Edit } from '../build.js';
import type { FaultKind } from '../nemesis.js';

/** A bug that is planted in what the library does for streams, and the run that has to notice it. */
export interface StreamMutant {
  readonly name: string;
  readonly store: 'postgres' | 'redis';
  readonly mode: 'block' | 'rerun';
  readonly edits: readonly Edit[];
  readonly faults: readonly FaultKind[];
  readonly crash: number;
  readonly cut: number;
  /** The rules of which at least one has to notice it. */
  readonly caughtBy: readonly string[];
}

const SCRIPTS = 'lib/stores/redis/redis.log-scripts.ts';
const FOLLOWER = 'lib/core/streams/follower.ts';
const RECORDER = 'lib/core/streams/recorder.ts';
const DELIVERY = 'lib/http/stream-delivery.ts';

const ON_REDIS = { store: 'redis', mode: 'block', faults: [], crash: 0, cut: 0 } as const;

export const STREAM_MUTANTS: readonly StreamMutant[] = [
  {
    ...ON_REDIS,
    name: 'an append does not ask whether the lease is over',
    faults: ['app_stop'],
    caughtBy: ['S5', 'S6'],
    edits: [
      {
        file: SCRIPTS,
        find: `if not held(r, ARGV[3]) then return 'lost' end\nlocal first, head`,
        put: `if not r then return 'lost' end\nlocal first, head`,
      },
      { file: RECORDER, find: `if (!this.run.mayHoldClaim) return this.fail('lost');`, put: '' },
    ],
  },
  {
    ...ON_REDIS,
    name: 'a batch that is sent again is appended again',
    cut: 0.05,
    caughtBy: ['S2', 'S3', 'S4', 'S8'],
    edits: [
      {
        file: SCRIPTS,
        find: 'if tail > 0 and last == tail then return extend(r, ARGV[4]) end',
        put: 'if tail > 0 and last == tail then first, last = tail + 1, tail + last - first + 1 end',
      },
    ],
  },
  {
    ...ON_REDIS,
    name: 'items are delivered before they are in the log',
    crash: 0.005,
    cut: 0.02,
    faults: ['app_kill', 'proxy_blackhole'],
    caughtBy: ['S3', 'S6'],
    edits: [
      {
        file: RECORDER,
        find: '    let wait = FIRST_PAUSE_MS;\n    for (;;) {\n      const sentAt',
        put:
          '    this.feed.publish(batch.map((bytes, i): StreamItem => ({ seq: firstSeq + i, bytes })));\n' +
          '    let wait = FIRST_PAUSE_MS;\n    for (;;) {\n      const sentAt',
      },
      {
        file: RECORDER,
        find:
          '    this.appended += batch.length;\n' +
          '    this.feed.publish(batch.map((bytes, i): StreamItem => ({ seq: firstSeq + i, bytes })));',
        put: '    this.appended += batch.length;',
      },
    ],
  },
  {
    ...ON_REDIS,
    name: 'a follower begins one item too early after each page',
    caughtBy: ['S2'],
    edits: [
      {
        file: FOLLOWER,
        find: 'cursor = page.items[page.items.length - 1]!.seq;',
        put: 'cursor = page.items[page.items.length - 1]!.seq - (page.items.length > 1 ? 1 : 0);',
      },
    ],
  },
  {
    ...ON_REDIS,
    name: 'a follower of another process begins where the stream is now',
    caughtBy: ['S2', 'S4', 'S6'],
    edits: [
      {
        file: FOLLOWER,
        find: `      if (page.items.length > 0) {`,
        put: `      if (!feed && cursor === 0 && page.tail > 3) { cursor = page.tail; continue; }\n      if (page.items.length > 0) {`,
      },
    ],
  },
  {
    ...ON_REDIS,
    name: 'an interrupted stream ends cleanly',
    faults: ['app_kill'],
    crash: 0.005,
    caughtBy: ['S4', 'S5'],
    edits: [
      {
        file: DELIVERY,
        find: `if (part.end === 'complete') {`,
        put: `if (part.end === 'complete' || part.end === 'interrupted') {`,
      },
    ],
  },
  {
    ...ON_REDIS,
    name: 'a source that failed has come to its end',
    caughtBy: ['S4'],
    edits: [
      {
        file: DELIVERY,
        find: `if (part.end === 'complete') {`,
        put: `if (part.end === 'complete' || part.end === 'failed') {`,
      },
    ],
  },
  {
    ...ON_REDIS,
    name: 'a cursor resumes any attempt',
    mode: 'rerun',
    faults: ['app_kill'],
    crash: 0.005,
    caughtBy: ['S2', 'S3', 'S7'],
    edits: [{ file: 'lib/core/streams/streams.ts', find: ' || record.attempt !== cursor.attempt', put: '' }],
  },
  {
    ...ON_REDIS,
    name: 'a stream whose producer is lost is made again',
    faults: ['app_kill'],
    crash: 0.005,
    caughtBy: ['S1'],
    edits: [{ file: 'lib/core/policy.ts', find: `takeOver: afterCrash === 'rerun',`, put: 'takeOver: true,' }],
  },
  {
    ...ON_REDIS,
    name: 'clients of the producer are not told what the log has beyond a lost reply',
    cut: 0.03,
    // Delayed, an append is under way most of the time: the fault that costs the claim has to meet one.
    faults: ['proxy_delay', 'proxy_blackhole', 'app_stop'],
    caughtBy: ['S5', 'S6'],
    edits: [
      {
        file: FOLLOWER,
        find: `  if (feed.end === 'interrupted' && items.length === 0) return undefined;`,
        put: '',
      },
      {
        file: FOLLOWER,
        find: `  if (end === undefined || end === 'interrupted') return {`,
        put: `  if (end === 'interrupted') return { state: 'interrupted', head, tail, items, leaseRemainingMs: 0 };\n  if (end === undefined) return {`,
      },
    ],
  },
];
