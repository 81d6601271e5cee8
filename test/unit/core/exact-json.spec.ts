import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { canonicalText, ExactNumber } from '../../../lib/core/canonical.js';
import { readExactJson } from '../../../lib/core/exact-json.js';
import { measured } from '../support.js';

/** The canonical text of a body, as the fingerprint takes it. */
function textOf(body: string): string {
  const read = readExactJson(body);
  if (!read) throw new Error(`no JSON: ${body.slice(0, 60)}`);
  return canonicalText(read.value);
}

/** A decimal as sign, digits and exponent, by big integers: nothing in common with how the library reads it. */
function valueOf(token: string): string {
  const [mantissa, exponent = '0'] = token.toLowerCase().split('e') as [string, string?];
  const [whole, fraction = ''] = mantissa.split('.') as [string, string?];
  let digits = BigInt(whole + fraction);
  if (digits === 0n) return '0';
  let power = BigInt(exponent) - BigInt(fraction.length);
  while (digits % 10n === 0n) {
    digits /= 10n;
    power += 1n;
  }
  return `${digits} ${power}`;
}

const digits = (max: number) => fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: 1, maxLength: max });
const numberToken = fc
  .record({
    sign: fc.constantFrom('', '-'),
    whole: fc.oneof(
      fc.constant('0'),
      fc.tuple(fc.constantFrom(...'123456789'), digits(20)).map((parts) => parts.join('')),
    ),
    fraction: fc.oneof(
      fc.constant(''),
      digits(20).map((text) => `.${text}`),
    ),
    exponent: fc.oneof(
      fc.constant(''),
      fc.tuple(fc.constantFrom('e', 'E'), fc.constantFrom('', '+', '-'), digits(3)).map((parts) => parts.join('')),
    ),
  })
  .map(
    ({ sign, whole, fraction, exponent }) =>
      `${sign}${sign && Number(whole) === 0 && !/[1-9]/.test(fraction) ? '1' : ''}${whole}`.replace(/^-10$/, '-1') +
      fraction +
      exponent,
  );

describe('readExactJson', () => {
  it.each([
    ['9007199254740993', '9007199254740992'],
    ['-9007199254740993', '-9007199254740992'],
    ['9007199254740993', '9007199254740993.5'],
    ['1e400', '1e401'],
    ['1e400', '-1e400'],
    ['1e-400', '0'],
    ['1e-400', '2e-400'],
    ['0.1', '0.1000000000000000055511151231257827'],
    ['123456789012.12345', '123456789012.12346'],
    ['12345678901.000001', '12345678901.000002'],
    ['1234567.0000000001', '1234567'],
    ['99999999999999.991', '99999999999999.992'],
    ['1e9999999999999999', '1e9999999999999998'],
    ['100000000000000000000000', '100000000000000000000001'],
  ])('keeps %s and %s apart, though they may be one number to JavaScript', (a, b) => {
    expect(textOf(`[${a}]`)).not.toBe(textOf(`[${b}]`));
    expect(textOf(`{"amount":${a}}`)).not.toBe(textOf(`{"amount":${b}}`));
  });

  it.each([
    ['9007199254740993', '9007199254740993.0'],
    ['9007199254740993', '9.007199254740993e15'],
    ['9007199254740993', '90071992547409930E-1'],
    ['9007199254740992', '9007199254740992.00'],
    ['1e400', '10E+399'],
    ['1e400', '1.0e400'],
    ['1e400', '0.01e402'],
    ['-1e400', '-10e399'],
    ['1e-400', '0.1e-399'],
    ['1e2', '100'],
    ['1E+2', '100.0'],
    ['1e21', '1000000000000000000000'],
    ['0.1', '0.10000000000000000000'],
    ['5e-324', '0.5e-323'],
    ['-0', '0'],
    ['-0.0e7', '0'],
    ['0e400', '0'],
    ['0.0000000000000000000000', '0'],
  ])('takes %s and %s for one number', (a, b) => {
    expect(textOf(`[${a}]`)).toBe(textOf(`[${b}]`));
  });

  it('takes two numbers for one exactly where they are equal as written', () => {
    fc.assert(
      fc.property(numberToken, numberToken, (a, b) => {
        const equal = valueOf(a) === valueOf(b);
        if ((textOf(`[${a}]`) === textOf(`[${b}]`)) !== equal) throw new Error(`${a} and ${b}: ${equal}`);
      }),
      { numRuns: 2_000 },
    );
  });

  it('tells a number from each of its neighbours in the last digit', () => {
    fc.assert(
      fc.property(numberToken, fc.nat(), (token, seed) => {
        const [mantissa, ...exponent] = token.split(/(?=[eE])/) as [string, ...string[]];
        const places = [...mantissa.matchAll(/\d/g)].map((match) => match.index);
        const last = places[places.length - 1]!;
        const other = String((Number(mantissa[last]) + 1 + (seed % 9)) % 10);
        const neighbour = mantissa.slice(0, last) + other + mantissa.slice(last + 1) + exponent.join('');
        fc.pre(valueOf(token) !== valueOf(neighbour));
        if (textOf(`[${token}]`) === textOf(`[${neighbour}]`)) throw new Error(`${token} and ${neighbour} are one`);
      }),
      { numRuns: 3_000 },
    );
  });

  it('gives what JSON.parse gives where every number is one that a double keeps', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 4 }), fc.boolean(), (text, indented) => {
        const body = indented ? JSON.stringify(JSON.parse(text), null, 2) : text;
        if (!isDeepStrictEqual(readExactJson(body)?.value, JSON.parse(body))) throw new Error(body);
      }),
      { numRuns: 1_000 },
    );
  });

  it('changes nothing but numbers: texts and names stay, whatever is in them', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })), (object) => {
        const text = JSON.stringify({ ...object, n: 1 }).replace(/1}$/, '9007199254740993}');
        const { value } = readExactJson(text) as { value: Record<string, unknown> };
        if (!(value['n'] instanceof ExactNumber)) throw new Error('the number was lost');
        const { n: _n, ...rest } = value;
        const { n: _other, ...wanted } = object;
        if (!isDeepStrictEqual({ ...rest }, { ...wanted })) throw new Error(text);
      }),
    );
  });

  it.each([
    '"9007199254740993"',
    '"#9007199254740993e0"',
    '"##9007199254740993e0"',
    '"\\u00239007199254740993e0"',
    '"\\u0023\\u00239007199254740993e0"',
    '"#"',
  ])('never takes the text %s for a number', (text) => {
    for (const body of [`[${text},9007199254740993]`, `[9007199254740993,${text}]`, `[${text},1e400,"#","\\u0023"]`]) {
      const { value } = readExactJson(body) as { value: unknown[] };
      expect(value).toContain(JSON.parse(text));
      expect(textOf(body)).not.toBe(textOf(body.replace(text, '9007199254740993')));
    }
  });

  it('does not look for numbers in texts and names', () => {
    expect(readExactJson('{"9007199254740993":"1e400 \\" 9007199254740993","a":1e1}')?.value).toEqual({
      '9007199254740993': '1e400 " 9007199254740993',
      a: 10,
    });
    expect(textOf('["\\\\",9007199254740993]')).not.toBe(textOf('["\\\\",9007199254740992]'));
  });

  it('keeps a number under the name __proto__', () => {
    const { value } = readExactJson('{"__proto__":9007199254740993,"a":{"__proto__":{"b":1e400}}}') as {
      value: object;
    };
    expect(Object.keys(value)).toEqual(['__proto__', 'a']);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(textOf('{"__proto__":9007199254740993}')).not.toBe(textOf('{"__proto__":9007199254740992}'));
  });

  it('takes the last of two members of one name, as the handler sees it', () => {
    expect(textOf('{"a":9007199254740993,"a":1}')).toBe(textOf('{"a":1}'));
    expect(textOf('{"a":1,"a":9007199254740993}')).toBe(textOf('{"a":9007199254740993}'));
  });

  it.each([
    '',
    ' ',
    '{',
    '{"a":}',
    '{a:1}',
    "{'a':1}",
    '[1,]',
    'NaN',
    '[1e400',
    '[1e400,]',
    '[9007199254740993 1]',
    '[-9007199254740993-]',
    '[09007199254740993]',
    '[-01e400]',
    '[.9007199254740993]',
    '[9007199254740993.]',
    '[9007199254740993.e4]',
    '[9007199254740993e]',
    '[+9007199254740993]',
    '[0x9007199254740993]',
    '{9007199254740993:1}',
    '{1e400:1}',
    '"9007199254740993',
    '[1e400]]',
    '\u0000[9007199254740993]',
  ])('says that %j is no JSON, as JSON.parse does', (text) => {
    expect(() => JSON.parse(text) as unknown).toThrow();
    expect(readExactJson(text)).toBeUndefined();
  });

  it('finds no JSON where JSON.parse finds none', () => {
    const noise = fc.string({
      unit: fc.constantFrom(
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '"',
        '\\',
        '#',
        '9007199254740993',
        '1e400',
        '-',
        '.',
        '0',
        'a',
        ' ',
      ),
      maxLength: 8,
    });
    fc.assert(
      fc.property(noise, (text) => {
        let valid = true;
        try {
          JSON.parse(text);
        } catch {
          valid = false;
        }
        if ((readExactJson(text) !== undefined) !== valid) throw new Error(text);
      }),
      { numRuns: 3_000 },
    );
  });

  it.each([
    [1_000, '[', ']'],
    [1_000, '{"a":', '}'],
    [100_000, '[', ']'],
  ])('sees a big number under %d levels of %s', (depth, open, close) => {
    const body = (n: string): string => open.repeat(depth) + n + close.repeat(depth);
    const { result, ms } = measured(() => textOf(body('9007199254740993')) === textOf(body('9007199254740992')));
    expect(result).toBe(false);
    expect(ms).toBeLessThan(5_000);
  });

  it.each([
    ['one text of marks', `["${'#'.repeat(1 << 20)}",1e5]`],
    ['one text of escaped marks', `["${'\\u0023'.repeat(170_000)}",1e5]`],
    ['big numbers', `[${'9007199254740993,'.repeat(60_000)}1]`],
    ['big numbers and marks', `["${'#'.repeat(500_000)}",${'9007199254740993,'.repeat(30_000)}1]`],
    ['one number', `[${'9'.repeat(1 << 20)}]`],
    ['one number with a fraction', `[0.${'9'.repeat(1 << 20)}]`],
    ['one exponent', `[1e${'9'.repeat(1 << 20)}]`],
    ['one number with no end', `[${'1.'.repeat(1 << 19)}]`],
    ['minus signs', `[${'-'.repeat(1 << 20)}1e400]`],
    ['an open text', `[1e400,"${'\\"'.repeat(1 << 19)}`],
    ['short numbers', `[${'1e1,'.repeat(250_000)}1]`],
  ])('reads 1 MiB of %s in bounded time', (_what, text) => {
    expect(measured(() => readExactJson(text)).ms).toBeLessThan(5_000);
  });
});
