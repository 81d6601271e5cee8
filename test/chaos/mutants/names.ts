import { edit, type Mutant } from './mutant.js';

const RECORD_KEY = `hashParts(['record', scope, operation, key])`;

/** Bugs in what is whose, and in what must stay secret. */
export const nameMutants: readonly Mutant[] = [
  {
    name: 'the body is no part of the fingerprint',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I4', 'I7'] },
    edits: [edit('lib/http/http-fingerprint.ts', `...body.map((part) => ['body', part] as const),`, '')],
  },
  {
    name: 'a replay from memory does not compare the fingerprint',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I4', 'I7'] },
    edits: [edit('lib/core/engine.ts', 'if (hot.fingerprint !== call.fingerprint) throw reusedError();', '')],
  },
  {
    name: 'the scope is no part of the record key',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I4'] },
    edits: [edit('lib/core/record-key.ts', RECORD_KEY, `hashParts(['record', operation, key])`)],
  },
  {
    name: 'scope and key are joined by a separator that either may hold',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I4'] },
    edits: [edit('lib/core/record-key.ts', RECORD_KEY, `hashParts(['record', operation, [scope, key].join('::')])`)],
  },
  {
    name: 'the client’s key stands in the store as it is',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I15'] },
    edits: [edit('lib/core/record-key.ts', RECORD_KEY, `[operation, scope, key].join('|')`)],
  },
  {
    name: 'cookies are kept and replayed',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I15'] },
    edits: [edit('lib/http/kept-headers.ts', `  'etag',`, `  'etag',\n  'set-cookie',`)],
  },
];
