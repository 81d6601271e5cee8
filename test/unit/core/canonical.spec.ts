import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { canonicalText, ExactNumber } from '../../../lib/core/canonical.js';
import { measured } from '../support.js';

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const names = fc.oneof(
  fc.string({ maxLength: 3 }),
  fc.constantFrom('a', 'b', '__proto__', 'constructor', 'toJSON', '', '\u00e9', '10', '9'),
);
const leaf = fc.oneof(
  fc.constant(null),
  fc.boolean(),
  fc.integer({ min: -3, max: 3 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.string({ unit: 'binary', maxLength: 4 }),
  fc.constantFrom('', '1', 'null', '[]', '{}', 'e\u0301', '\u00e9', '\ud800', '"', '\\', '\u0000', '\u2028'),
);
const json = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.array(fc.tuple(names, tie('value')), { maxLength: 3 }).map(objectOf),
  ),
})).value;

/** As a parser makes it: `__proto__` is a member like any other. */
function objectOf(members: readonly (readonly [string, Json])[]): { [name: string]: Json } {
  const object: { [name: string]: Json } = {};
  for (const [name, value] of members) {
    Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
  }
  return object;
}

/** The same value with the members of every object in the opposite order. */
function turned(value: Json): Json {
  if (Array.isArray(value)) return value.map(turned);
  if (typeof value !== 'object' || value === null) return value;
  return objectOf(
    Object.keys(value)
      .reverse()
      .map((name) => [name, turned(value[name]!)] as const),
  );
}

/** -0 is 0 to whoever compares. */
function withoutMinusZero(value: Json): Json {
  if (typeof value === 'number') return value === 0 ? 0 : value;
  if (Array.isArray(value)) return value.map(withoutMinusZero);
  if (typeof value !== 'object' || value === null) return value;
  return objectOf(Object.keys(value).map((name) => [name, withoutMinusZero(value[name]!)] as const));
}

function nested(depth: number, open: string, close: string, core = '1'): unknown {
  return JSON.parse(open.repeat(depth) + core + close.repeat(depth)) as unknown;
}

describe('canonicalText', () => {
  it('is equal for exactly those values that are deeply equal', () => {
    fc.assert(
      fc.property(json, json, (a, b) => {
        const equal = isDeepStrictEqual(withoutMinusZero(a), withoutMinusZero(b));
        if ((canonicalText(a) === canonicalText(b)) !== equal)
          throw new Error(equal ? 'equal values differ' : 'different values are one');
      }),
      { numRuns: 3_000 },
    );
  });

  it('sees every single change of a value', () => {
    fc.assert(
      fc.property(json, leaf, fc.nat(), (value, other, at) => {
        const text = JSON.stringify(value);
        const changed = JSON.parse(text, function (this: unknown, _name, inner: Json) {
          return at-- === 0 ? other : inner;
        }) as Json;
        const equal = isDeepStrictEqual(withoutMinusZero(value), withoutMinusZero(changed));
        if ((canonicalText(value) === canonicalText(changed)) !== equal) throw new Error(`equal: ${equal}`);
      }),
      { numRuns: 2_000 },
    );
  });

  it('is the same whatever the order of members, at every depth', () => {
    fc.assert(
      fc.property(json, (value) => {
        if (canonicalText(turned(value)) !== canonicalText(value)) throw new Error('the order counted');
      }),
      { numRuns: 1_000 },
    );
  });

  it.each([2, 24, 25, 300])('sorts %i members by their UTF-16 code units, in whatever order they come', (count) => {
    const sorted = Array.from({ length: count }, (_, i) => `m${i}\u{1f600}`).sort();
    const text = `{${sorted.map((name) => `${JSON.stringify(name)}:1`).join(',')}}`;
    const shuffled = fc.shuffledSubarray(sorted, { minLength: count, maxLength: count });
    fc.assert(
      fc.property(shuffled, (names) => {
        expect(canonicalText(objectOf(names.map((name) => [name, 1] as const)))).toBe(text);
      }),
    );
  });

  it('gives JSON that means the same', () => {
    fc.assert(
      fc.property(json, (value) => {
        const back = JSON.parse(canonicalText(value)) as Json;
        if (!isDeepStrictEqual(back, withoutMinusZero(value))) throw new Error('another value came back');
      }),
      { numRuns: 1_000 },
    );
  });

  it.each([
    ['members in another order', '{"a":1,"b":2}', '{"b":2,"a":1}'],
    ['white space', '{"a":[1,2]}', ' { "a" : [ 1 ,\n2 ] } '],
    ['1.0 and 1', '[1.0]', '[1]'],
    ['1e2 and 100', '[1e2]', '[100]'],
    ['1E+2 and 100', '[1E+2]', '[100]'],
    ['0.10 and 0.1', '[0.10]', '[0.1]'],
    ['-0 and 0', '[-0]', '[0]'],
    ['escaped and plain characters', '["\\u0041\\/\\u00e9\\n"]', '["A/\u00e9\\u000a"]'],
    ['an escaped member name', '{"\\u0061":1}', '{"a":1}'],
    ['an escaped surrogate pair', '["\\ud83d\\ude00"]', '["\ud83d\ude00"]'],
    ['a name that is there twice: the last one is what the handler sees', '{"a":1,"a":2}', '{"a":2}'],
  ])('takes for one: %s', (_what, a, b) => {
    expect(canonicalText(JSON.parse(a))).toBe(canonicalText(JSON.parse(b)));
  });

  it.each([
    ['null and absent', '{"a":null}', '{}'],
    ['null and false', '[null]', '[false]'],
    ['null and the text null', '[null]', '["null"]'],
    ['a number and its text', '[1]', '["1"]'],
    ['an array in another order', '[1,2]', '[2,1]'],
    ['an empty array and an empty object', '[]', '{}'],
    ['an array and an object with its indexes', '["a"]', '{"0":"a"}'],
    ['one more level', '[[1]]', '[1]'],
    ['elements in other arrays', '[[1],[2,3]]', '[[1,2],[3]]'],
    ['a member one level down', '{"a":{"b":1}}', '{"a":{},"b":1}'],
    ['NFC and NFD', '["\u00e9"]', '["e\u0301"]'],
    ['NFC and NFD in a name', '{"\u00e9":1}', '{"e\u0301":1}'],
    ['upper and lower case', '["A"]', '["a"]'],
    ['a __proto__ member and none', '{"__proto__":{"a":1}}', '{}'],
    ['two __proto__ members', '{"__proto__":{"a":1}}', '{"__proto__":{"a":2}}'],
    ['a __proto__ member and its members', '{"__proto__":{"a":1}}', '{"a":1}'],
    ['two halves of a surrogate pair', '["\\ud800"]', '["\\ud801"]'],
    ['a half of a surrogate pair and its replacement', '["\\ud800"]', '["\\ufffd"]'],
    ['a text that looks like members', '{"a":"1,\\"b\\":2"}', '{"a":"1","b":2}'],
  ])('tells apart: %s', (_what, a, b) => {
    expect(canonicalText(JSON.parse(a))).not.toBe(canonicalText(JSON.parse(b)));
  });

  it('takes a member that is undefined for an absent one, as JSON does', () => {
    expect(canonicalText({ a: undefined, b: 1 })).toBe(canonicalText({ b: 1 }));
  });

  it('gives values that JSON has not a form that no JSON value has', () => {
    const others = [
      undefined,
      NaN,
      Infinity,
      -Infinity,
      1n,
      new Date(0),
      new Date(1),
      new Date(NaN),
      new Uint8Array([1]),
      new Uint8Array([2]),
      new Uint8Array([1]).buffer,
      new DataView(new Uint8Array([7]).buffer),
      new Map([['a', 1]]),
      new Map([['a', 2]]),
      new Set(['a', 1]),
      new ExactNumber('9007199254740993e0'),
      new ExactNumber('1e400'),
    ];
    const texts = others.map((value) => canonicalText([value]));
    expect(new Set([...texts.slice(0, 10), ...texts.slice(11)]).size).toBe(others.length - 1);
    for (const text of [
      'null',
      'true',
      '1',
      '"undefined"',
      '"NaN"',
      '"bigint:1"',
      '"date:0"',
      '"AQ=="',
      '"1e400"',
      '[]',
      '{}',
      '[["a",1]]',
    ]) {
      expect(texts).not.toContain(canonicalText([JSON.parse(text)]));
    }
  });

  it('sees the content of values that say by toJSON what they are', () => {
    class Money {
      readonly #cents: number;
      constructor(cents: number) {
        this.#cents = cents;
      }
      toJSON(): unknown {
        return { cents: this.#cents };
      }
    }
    expect(canonicalText(new Money(5))).not.toBe(canonicalText(new Money(6)));
    expect(canonicalText({ price: new Money(5) })).toBe('{"price":{"cents":5}}');
    expect(canonicalText(new URL('https://a.example/'))).not.toBe(canonicalText(new URL('https://b.example/')));
  });

  it('does not let what a client sends pass for something that JSON has not', () => {
    fc.assert(
      fc.property(json, (value) => {
        const text = canonicalText(value);
        if (text !== canonicalText(JSON.parse(JSON.stringify(withoutMinusZero(value)))))
          throw new Error('a value that is no JSON');
      }),
    );
    expect(canonicalText(JSON.parse('{"toJSON":"x"}'))).toBe('{"toJSON":"x"}');
  });

  it.each([
    ['arrays', 100_000, '[', ']'],
    ['objects', 100_000, '{"a":', '}'],
    ['both', 20_000, '[{"b":0,"a":', '}]'],
  ])('goes through %s, %d deep, in bounded time, with paths to omit too', (_what, depth, open, close) => {
    const value = nested(depth, open, close);
    const plain = measured(() => canonicalText(value));
    expect(plain.result.startsWith(open.slice(0, 2))).toBe(true);
    const omitting = measured(() => canonicalText(value, ['a.a.zzz', '*.b', 'x']));
    expect(omitting.result.length).toBeGreaterThan(200_000);
    expect(plain.ms + omitting.ms).toBeLessThan(5_000);
  });

  it('sees a difference under 1,000 levels', () => {
    expect(canonicalText(nested(1_000, '{"a":', '}', '1'))).not.toBe(canonicalText(nested(1_000, '{"a":', '}', '2')));
    expect(canonicalText(nested(1_000, '[', ']'))).not.toBe(canonicalText(nested(999, '[', ']')));
  });

  it.each([
    ['one text', JSON.stringify('x'.repeat(1 << 20))],
    ['short numbers', `[${'1,'.repeat(1 << 19)}1]`],
    ['empty objects', `[${'{},'.repeat(350_000)}1]`],
    ['names', `{${Array.from({ length: 80_000 }, (_, i) => `"n${i}":1`).join(',')}}`],
    ['control characters', JSON.stringify('\u0000'.repeat(170_000))],
  ])('goes through 1 MiB of %s in bounded time', (_what, text) => {
    const value = JSON.parse(text) as unknown;
    expect(measured(() => canonicalText(value, ['*.a', 'n5'])).ms).toBeLessThan(5_000);
  });

  it('refuses a value that contains itself, soon and whatever else is in it', () => {
    const cycle: Record<string, unknown> = { big: 'x'.repeat(10_000) };
    cycle['self'] = { deeper: [cycle] };
    const { result, ms } = measured(() => {
      try {
        return canonicalText(cycle);
      } catch (error) {
        return error;
      }
    });
    expect(result).toBeInstanceOf(TypeError);
    expect((result as Error).message).toContain('contains itself');
    expect(ms).toBeLessThan(1_000);
  });

  it('does not take a value that is there twice for one that contains itself', () => {
    const shared = { a: [1] };
    expect(canonicalText([shared, { shared }, shared])).toBe('[{"a":[1]},{"shared":{"a":[1]}},{"a":[1]}]');
  });
});

describe('canonicalText with paths to omit', () => {
  const order = {
    id: 1,
    metadata: { sentAt: 'now', by: 'x' },
    items: [
      { sku: 'a', trace: 1 },
      { sku: 'b', trace: 2 },
    ],
  };

  it('leaves out the member at a path, and nothing else', () => {
    expect(canonicalText(order, ['metadata.sentAt'])).toBe(
      '{"id":1,"items":[{"sku":"a","trace":1},{"sku":"b","trace":2}],"metadata":{"by":"x"}}',
    );
    expect(canonicalText(order, ['metadata', 'items'])).toBe('{"id":1}');
    expect(canonicalText(order, ['sentAt', 'metadata.sentAt.deeper', 'by', 'sku'])).toBe(canonicalText(order));
  });

  it('takes * for any element of an array and for any member', () => {
    expect(canonicalText(order, ['items.*.trace'])).toBe(
      '{"id":1,"items":[{"sku":"a"},{"sku":"b"}],"metadata":{"by":"x","sentAt":"now"}}',
    );
    expect(canonicalText(order, ['*.sentAt'])).toBe(canonicalText(order, ['metadata.sentAt']));
    expect(canonicalText({ a: { x: 1, y: 2 }, b: { x: 3 } }, ['*.x'])).toBe('{"a":{"y":2},"b":{}}');
    expect(canonicalText([{ a: 1, b: 2 }], ['*.a'])).toBe('[{"b":2}]');
    expect(canonicalText([[{ a: 1, b: 2 }]], ['*.*.a'])).toBe('[[{"b":2}]]');
    expect(canonicalText({ a: 1, b: 2 }, ['*'])).toBe('{}');
  });

  it('finds the same members after arrays and objects that were left', () => {
    const value = { a: [[1], { x: 1 }], b: { x: 1, c: [{ x: 1 }] }, x: 1 };
    expect(canonicalText(value, ['b.x'])).toBe('{"a":[[1],{"x":1}],"b":{"c":[{"x":1}]},"x":1}');
    expect(canonicalText(value, ['a.*.x'])).toBe('{"a":[[1],{}],"b":{"c":[{"x":1}],"x":1},"x":1}');
    expect(canonicalText(value, ['b.c.*.x', 'x'])).toBe('{"a":[[1],{"x":1}],"b":{"c":[{}],"x":1}}');
  });

  it('does not leave out a member whose name only looks like a path', () => {
    for (const name of ['a.b', 'a\u0000b', 'a*', 'a/b']) {
      expect(canonicalText({ [name]: 1 }, ['a.b', 'a.*'])).not.toBe(canonicalText({ [name]: 2 }, ['a.b', 'a.*']));
    }
  });

  it('gives the same as taking the member away', () => {
    fc.assert(
      fc.property(json, names, names, (value, first, second) => {
        fc.pre(![first, second].some((name) => name.includes('.') || name.includes('*')));
        const object = objectOf([
          [
            first,
            objectOf([
              [second, value],
              ['rest', 1],
            ]),
          ],
          ['other', value],
        ]);
        const without = objectOf([
          [first, objectOf([['rest', 1]].filter(([name]) => name !== second) as never)],
          ['other', value],
        ]);
        fc.pre(first !== 'other');
        if (canonicalText(object, [`${first}.${second}`]) !== canonicalText(without)) throw new Error('not the same');
      }),
    );
  });
});
