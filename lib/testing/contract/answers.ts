import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { AnswerNotKept, RecordedAnswer } from '../../core/record.js';
import { newRecordKey, sameAnswer, textAnswer, type Bench, type CaseGroup } from './bench.js';

const MIB = 1024 * 1024;

const BODIES: Readonly<Record<string, () => Uint8Array>> = {
  'an empty body': () => new Uint8Array(0),
  'a body of one zero byte': () => new Uint8Array(1),
  'a body of all 256 byte values': () => Uint8Array.from({ length: 256 }, (_, byte) => byte),
  'a body that is no valid UTF-8': () => Uint8Array.from([0xff, 0xfe, 0xc3, 0x28, 0x00, 0xed, 0xa0, 0x80]),
  'a body in a Buffer': () => Buffer.from('{"a":"ä€😀"}'),
  'a body that is a slice of a larger buffer': () => Buffer.from('....body....').subarray(4, 8),
  'a body of 1 MiB': () => randomBytes(MIB),
  'a body of 5 MiB': () => randomBytes(5 * MIB),
};

const REASONS: readonly AnswerNotKept['reason'][] = ['too_large', 'not_serialisable', 'late'];

const OPERATIONS: Readonly<Record<string, string>> = {
  quotes: `it's "quoted" \`so\` \\ and \\'so\\'`,
  SQL: `x'; DROP TABLE idempotency_records; --`,
  'a placeholder': 'POST /a/:id $1 ?1 %s ${x} {{x}}',
  'braces and other marks of a key': 'GET /{tenant}:{id}*?[a-z]',
  JSON: '{"a":[1,{"b":null}]}',
  Unicode: 'PÖST /größe/😀/日本語/e\u0301/\u202e',
  'control characters': 'a\tb\nc\rd\u0001\u001b[31m\u007f',
  spaces: '  POST  /x  ',
  '255 characters': 'ä'.repeat(255),
};

async function keeps(b: Bench, answer: RecordedAnswer): Promise<void> {
  await b.completed({}, answer);
  sameAnswer((await b.asks('completed', {}, await b.other())).record.answer, answer);
  sameAnswer((await b.view()).answer, answer);
}

/** What is put into a record comes out of it, byte for byte. */
export const answerCases: CaseGroup = {
  title: 'answers',
  cases: {
    ...Object.fromEntries(
      Object.entries(BODIES).map(([what, make]) => [
        `${what} is kept byte for byte`,
        (b: Bench) => keeps(b, textAnswer('', { body: make() })),
      ]),
    ),

    'every status is kept, and that there is none': async (b) => {
      for (const status of [null, 200, 201, 204, 302, 404, 599]) {
        const recordKey = newRecordKey();
        await b.completed({ recordKey }, textAnswer('first', { status }));
        sameAnswer((await b.view(recordKey)).answer, textAnswer('first', { status }));
      }
    },

    'headers are kept in their order, with those that occur twice': async (b) => {
      const headers = [
        ['link', '</a>; rel="next"'],
        ['content-type', 'application/json; charset=utf-8'],
        ['link', '</b>; rel="prev"'],
        ['etag', `W/"it's \\"1\\""`],
        ['__proto__', 'a name like any other'],
      ] as const;
      await keeps(b, textAnswer('first', { headers }));
      assert.equal(({} as Record<string, unknown>)['0'], undefined);
    },

    'header values are kept, be they Unicode, empty or long': async (b) => {
      const headers = [
        ['content-disposition', 'attachment; filename="größe 日本語 😀.pdf"'],
        ['x-empty', ''],
        ['location', `/a?${'x'.repeat(8_000)}`],
      ] as const;
      await keeps(b, textAnswer('first', { headers }));
    },

    'an answer without headers is kept': (b) => keeps(b, textAnswer('first', { headers: [] })),

    'an answer that is not kept says why': async (b) => {
      for (const reason of REASONS) {
        for (const status of [null, 200]) {
          const recordKey = newRecordKey();
          await b.completed({ recordKey }, { kept: false, status, reason });
          sameAnswer((await b.asks('completed', { recordKey })).record.answer, { kept: false, status, reason });
          sameAnswer((await b.view(recordKey)).answer, { kept: false, status, reason });
        }
      }
    },

    'what a caller does to its answer later does not change the record': async (b) => {
      const headers: [string, string][] = [['etag', '"1"']];
      const body = Buffer.from('first');
      await b.completed({}, textAnswer('', { headers, body }));
      body.fill(0);
      headers[0]![1] = '"2"';
      headers.push(['etag', '"3"']);
      sameAnswer((await b.view()).answer, textAnswer('first', { headers: [['etag', '"1"']] }));
    },

    'what a reader does to an answer does not change the record': async (b) => {
      await b.completed();
      for (const read of [async () => (await b.asks('completed')).record.answer, async () => (await b.view()).answer]) {
        const answer = await read();
        assert.ok(answer?.kept === true);
        answer.body.fill(0);
        sameAnswer(await read(), textAnswer('first'));
      }
    },

    'an answer is not changed by the next record of its key': async (b) => {
      await b.completed({}, textAnswer('a longer first answer', { status: 201 }));
      const { record } = await b.asks('completed');
      assert.equal(await b.store.forget(b.recordKey), true);
      await b.completed({}, textAnswer('second', { headers: [] }));
      sameAnswer(record.answer, textAnswer('a longer first answer', { status: 201 }));
      sameAnswer((await b.view()).answer, textAnswer('second', { headers: [] }));
    },

    ...Object.fromEntries(
      Object.entries(OPERATIONS).map(([what, operation]) => [
        `an operation with ${what} is kept as it is`,
        async (b: Bench) => {
          await b.claim({ operation });
          assert.equal((await b.view()).operation, operation);
          await b.asks('in_progress', { operation });
        },
      ]),
    ),
  },
};
