import fc from 'fast-check';
import { answerOfSettlement, answerOfValue, valueOfAnswer } from '../../../lib/core/answer.js';
import type { KeptAnswer, RecordedAnswer } from '../../../lib/core/record.js';

const MIB = 1024 * 1024;

function kept(answer: RecordedAnswer): KeptAnswer {
  if (answer.kept !== true) throw new Error(`not kept: ${JSON.stringify(answer)}`);
  return answer;
}

describe('the answer that stands for a value', () => {
  it('gives the value back as JSON does, whatever it is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(valueOfAnswer(kept(answerOfValue(value, MIB)))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it.each([[undefined], [null], [''], [0], [false], ['text'], [[]], [{}]])('gives %j back as itself', (value) => {
    expect(valueOfAnswer(kept(answerOfValue(value, MIB)))).toEqual(value);
  });

  it('gives dates back as texts, and what toJSON says of an object', () => {
    const value = { at: new Date(0), money: { toJSON: () => '5 EUR' }, gone: undefined };
    expect(valueOfAnswer(kept(answerOfValue(value, MIB)))).toEqual({ at: '1970-01-01T00:00:00.000Z', money: '5 EUR' });
  });

  it('is not kept where JSON has no text for the value', () => {
    const cycle: Record<string, unknown> = {};
    cycle['self'] = cycle;
    const throwing = {
      toJSON() {
        throw new Error('no');
      },
    };
    for (const value of [1n, { deep: [1n] }, cycle, throwing, () => 1, Symbol('s'), { toJSON: () => undefined }]) {
      expect(answerOfValue(value, MIB)).toEqual({ kept: false, status: null, reason: 'not_serialisable' });
    }
  });

  it('is not kept where its bytes, not its characters, are more than the limit', () => {
    expect(answerOfValue('\u00e9'.repeat(10), 22)).toMatchObject({ kept: true });
    expect(answerOfValue('\u00e9'.repeat(10), 21)).toEqual({ kept: false, status: null, reason: 'too_large' });
    expect(answerOfValue(undefined, 0)).toMatchObject({ kept: true });
  });

  it('does not change with the value that it was taken of', () => {
    const value = { n: 1 };
    const answer = kept(answerOfValue(value, MIB));
    value.n = 2;
    expect(valueOfAnswer(answer)).toEqual({ n: 1 });
  });
});

describe('an answer given by hand', () => {
  it.each([
    [{ body: { a: 1 } }, 'application/json; charset=utf-8', '{"a":1}', { a: 1 }],
    [{ body: null }, 'application/json; charset=utf-8', 'null', null],
    [{ body: 7 }, 'application/json; charset=utf-8', '7', 7],
    [{ body: 'text \u00e9' }, 'text/plain; charset=utf-8', 'text \u00e9', 'text \u00e9'],
  ])('%j is sent as %s', (settled, type, body, value) => {
    const answer = answerOfSettlement(settled);
    expect(answer).toMatchObject({ kept: true, status: null, headers: [['content-type', type]] });
    expect(Buffer.from(answer.body).toString()).toBe(body);
    expect(valueOfAnswer(answer)).toEqual(value);
  });

  it('sends bytes as they are, and gives them back as a copy that nobody else holds', () => {
    const bytes = new Uint8Array([0, 255, 1]);
    const answer = answerOfSettlement({ body: bytes, status: 201 });
    expect(answer).toMatchObject({ status: 201, headers: [['content-type', 'application/octet-stream']] });
    const value = valueOfAnswer(answer) as Uint8Array;
    expect([...value]).toEqual([0, 255, 1]);
    value[0] = 9;
    expect([...(valueOfAnswer(answer) as Uint8Array)]).toEqual([0, 255, 1]);
  });

  it('has no content type where it has no body, and keeps the one that it is given', () => {
    expect(answerOfSettlement({})).toEqual({ kept: true, status: null, headers: [], body: new Uint8Array(0) });
    expect(valueOfAnswer(answerOfSettlement({}))).toBeUndefined();
    expect(answerOfSettlement({ body: '<p>', headers: { 'Content-Type': 'text/html', ETag: '"1"' } }).headers).toEqual([
      ['content-type', 'text/html'],
      ['etag', '"1"'],
    ]);
  });

  it('reads JSON of every kind as JSON, and other texts as text', () => {
    const typed = (type: string, body: string): unknown =>
      valueOfAnswer(answerOfSettlement({ body, headers: { 'content-type': type } }));
    expect(typed('application/problem+json', '{"a":1}')).toEqual({ a: 1 });
    expect(typed('Application/JSON', '[1]')).toEqual([1]);
    expect(typed('application/vnd.acme.v2+json; charset=utf-8', '1')).toBe(1);
    expect(typed('text/csv', '1,2')).toBe('1,2');
    expect(typed('application/jsonlines', '1')).toEqual(Buffer.from('1'));
  });

  it('refuses a body that JSON cannot hold, rather than to record nothing', () => {
    expect(() => answerOfSettlement({ body: () => 1 })).toThrow(TypeError);
    expect(() => answerOfSettlement({ body: 1n })).toThrow(TypeError);
  });
});
