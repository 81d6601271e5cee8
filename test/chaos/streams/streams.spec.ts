import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { applyEdit } from '../build.js';
import { checkStreams, STREAM_RULES } from './check.js';
import type { ReadingEvent, StreamEvent } from './history.js';
import { STREAM_MUTANTS } from './mutants.js';

const call = { type: 'call', key: 'k', salt: 's', attempt: 1, fence: 1, server: 'a', at: 1 } as const;
const sourceEnd = { type: 'source_end', salt: 's', end: 'complete', tokens: 3 } as const;
const items = (from: number, to: number, prefix = 't.1', salt = 's'): ReadingEvent['items'] =>
  Array.from({ length: to - from + 1 }, (_, i) => [`${prefix}.${from + i}`, `${salt}-${from + i}`] as const);
const reading = (more: Partial<ReadingEvent>): ReadingEvent => ({
  ...{ type: 'reading', key: 'k', route: 'events', server: 'a', from: 2, to: 3, status: 200 },
  ...{ standing: 'live', items: items(1, 3), end: 'clean' },
  ...more,
});
const final = reading({ final: true });
const interrupted = { end: 'interrupted', reason: 'producer_lost' } as const;

const rulesOf = (events: readonly StreamEvent[], mode: 'block' | 'rerun' = 'block'): string[] => [
  ...new Set(checkStreams({ mode, events }).map(({ invariant }) => invariant)),
];

describe('the judge of streams', () => {
  it.each<[string, 'block' | 'rerun', readonly StreamEvent[]]>([
    ['read whole', 'block', [call, sourceEnd, reading({}), final]],
    [
      'left, and resumed',
      'block',
      [
        call,
        sourceEnd,
        reading({ items: items(1, 2), end: 'left' }),
        reading({ cursor: 't.1.2', items: items(3, 3) }),
        final,
      ],
    ],
    ['at its end already', 'block', [call, sourceEnd, reading({}), reading({ cursor: 't.1.3', items: [] }), final]],
    [
      'interrupted for all',
      'block',
      [
        call,
        reading({ ...interrupted, items: items(1, 2), endId: 't.1.2' }),
        reading({ ...interrupted, items: items(1, 2), endId: 't.1.2', final: true }),
      ],
    ],
    [
      'made again',
      'rerun',
      [
        call,
        { ...call, attempt: 2, fence: 2, salt: 'z' },
        { ...sourceEnd, salt: 'z' },
        reading({ ...interrupted, items: items(1, 1), endId: 't.1.1' }),
        reading({ items: items(1, 3, 't.2', 'z'), final: true }),
      ],
    ],
    [
      'replaced by a later attempt, which a slow reader meets before the end',
      'rerun',
      [
        call,
        { ...call, attempt: 2, fence: 2, salt: 'z' },
        { ...sourceEnd, salt: 'z' },
        reading({ ...interrupted, items: items(1, 3), endId: 't.1.3' }),
        reading({ ...interrupted, reason: 'stream_gone', items: items(1, 1), endId: 't.1.1' }),
        reading({ cursor: 't.1.1', status: 400, code: 'idempotency_cursor_invalid', items: [], end: 'refused' }),
        reading({ items: items(1, 3, 't.2', 'z'), final: true }),
      ],
    ],
    [
      'unknown before its first token',
      'block',
      [call, reading({ status: 409, code: 'idempotency_outcome_unknown', items: [], end: 'refused', final: true })],
    ],
  ])('finds nothing where nothing is wrong: %s', (_name, mode, events) => {
    expect(rulesOf(events, mode)).toEqual([]);
  });

  it.each<[keyof typeof STREAM_RULES, string, readonly StreamEvent[]]>([
    ['S1', 'called twice', [call, { ...call, attempt: 2, fence: 2, salt: 'z' }, sourceEnd, final]],
    ['S2', 'a gap', [call, sourceEnd, reading({ items: [...items(1, 1), ...items(3, 3)], end: 'left' }), final]],
    ['S2', 'a double', [call, sourceEnd, reading({ items: [...items(1, 2), ...items(2, 3)] }), final]],
    ['S2', 'not strictly after the cursor', [call, sourceEnd, reading({ cursor: 't.1.2', items: items(2, 3) }), final]],
    [
      'S3',
      'two calls in one answer',
      [call, sourceEnd, reading({ items: [...items(1, 1), ...items(2, 3, 't.1', 'z')] }), final],
    ],
    ['S3', 'resumed in another stream', [call, sourceEnd, reading({ cursor: 'u.1.2', items: items(3, 3) }), final]],
    ['S4', 'a clean end too early', [call, sourceEnd, reading({ items: items(1, 2) }), final]],
    ['S4', 'a clean end of a source without one', [call, final]],
    ['S5', 'two ends', [call, sourceEnd, reading({ ...interrupted, items: items(1, 2), endId: 't.1.2' }), final]],
    [
      'S5',
      'told that it is gone, though no attempt has taken its place',
      [
        call,
        reading({ ...interrupted, reason: 'stream_gone', items: items(1, 2), endId: 't.1.2' }),
        reading({ ...interrupted, items: items(1, 3), endId: 't.1.3', final: true }),
      ],
    ],
    [
      'S5',
      'interrupted at two places',
      [
        call,
        { ...call, attempt: 2, fence: 2, salt: 'z' },
        { ...sourceEnd, salt: 'z' },
        reading({ ...interrupted, items: items(1, 1), endId: 't.1.1' }),
        reading({ ...interrupted, items: items(1, 3), endId: 't.1.3' }),
        reading({ items: items(1, 3, 't.2', 'z'), final: true }),
      ],
    ],
    [
      'S3',
      'ended at a place of another attempt',
      [
        call,
        { ...call, attempt: 2, fence: 2, salt: 'z' },
        reading({ ...interrupted, items: items(1, 1), endId: 't.2.1' }),
        reading({ items: items(1, 3, 't.2', 'z'), final: true }),
      ],
    ],
    [
      'S6',
      'seen, and gone',
      [call, reading({ end: 'left' }), reading({ ...interrupted, items: items(1, 2), endId: 't.1.2', final: true })],
    ],
    [
      'S6',
      'seen, and unknown',
      [
        call,
        reading({ end: 'left' }),
        reading({ status: 409, code: 'idempotency_outcome_unknown', items: [], end: 'refused', final: true }),
      ],
    ],
    [
      'S7',
      'its own cursor refused',
      [
        call,
        sourceEnd,
        reading({ status: 400, code: 'idempotency_cursor_invalid', cursor: 't.1.1', items: [], end: 'refused' }),
        final,
      ],
    ],
    [
      'S7',
      'not kept',
      [
        call,
        sourceEnd,
        reading({ status: 410, code: 'idempotency_response_not_kept', items: [], end: 'refused' }),
        final,
      ],
    ],
    ['S8', 'never read at the end', [call, sourceEnd, reading({})]],
    ['S8', 'silent at the end', [call, sourceEnd, reading({ items: items(1, 2), end: 'silent', final: true })]],
    ['S9', 'a process that fails', [{ type: 'trouble', kind: 'process', server: 'a', what: 'unhandled' }]],
  ])('%s: %s', (rule, _name, events) => {
    expect(rulesOf(events)).toContain(rule);
  });
});

describe('the bugs planted in streams', () => {
  it.each(STREAM_MUTANTS.map((mutant) => [mutant.name, mutant] as const))('%s: can be planted', (_name, mutant) => {
    for (const file of new Set(mutant.edits.map((edit) => edit.file))) {
      const source = readFileSync(fileURLToPath(new URL(`../../../${file}`, import.meta.url)), 'utf8');
      const changed = mutant.edits.filter((edit) => edit.file === file).reduce(applyEdit, source);
      expect(changed).not.toBe(source);
    }
    for (const rule of mutant.caughtBy) expect(Object.keys(STREAM_RULES)).toContain(rule);
  });
});
