import fc from 'fast-check';
import { parseItem, serializeItem, Token } from 'structured-headers';
import { IdempotencyKeyInvalidError } from '../../../lib/core/errors.js';
import { checkKey, MAX_KEY_BYTES, parseKeyField } from '../../../lib/core/key.js';
import { measured } from '../support.js';

const HEADER = 'Idempotency-Key';

/** What is refused, and with which words. */
function refusal(field: string): IdempotencyKeyInvalidError {
  try {
    parseKeyField(field, HEADER);
  } catch (error) {
    if (error instanceof IdempotencyKeyInvalidError) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(field.slice(0, 80))}`);
}

const printable = (code: number): boolean => code >= 0x20 && code <= 0x7e;
const printableText = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
});
const quoted = (key: string): string => `"${key.replace(/[\\"]/g, (char) => `\\${char}`)}"`;

describe('parseKeyField', () => {
  it.each([
    ['abc', 'abc'],
    ['"abc"', 'abc'],
    ['8e03978e-40d5-43dd-bc93-6894a57f9324', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
    ['"8e03978e-40d5-43dd-bc93-6894a57f9324"', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
    ['"a b"', 'a b'],
    ['"a,b"', 'a,b'],
    ['"a;b"', 'a;b'],
    ['"a\\"b"', 'a"b'],
    ['"a\\\\b"', 'a\\b'],
    ['" "', ' '],
    ["a'b(c)<d>@:/[e]?={f}", "a'b(c)<d>@:/[e]?={f}"],
    ['"k";a', 'k'],
    ['"k";a=1', 'k'],
    ['"k";a=1;b="x;y,z"', 'k'],
    ['"k"; a=?1', 'k'],
    ['"k";a=tok/en:x', 'k'],
    ['"k";a=:YWJj:', 'k'],
    ['"k";a=@1659578233', 'k'],
    ['"k";a=%"caf%c3%a9"', 'k'],
    ['"k";*a-b_c.d*1', 'k'],
    ['"k";a="\\""', 'k'],
  ])('reads %j as %j', (field, key) => {
    expect(parseKeyField(field, HEADER)).toBe(key);
  });

  it.each([
    ['', 'is empty'],
    ['""', 'is empty'],
    [' ', 'only allowed inside quotes'],
    ['a b', 'only allowed inside quotes'],
    ['a"b', 'only allowed inside quotes'],
    ['a\\b', 'only allowed inside quotes'],
    ['a;b=1', 'only allowed inside quotes'],
    ['a"', 'only allowed inside quotes'],
    ['"a', 'opens a quote that it does not close'],
    ['"', 'opens a quote that it does not close'],
    ['"a\\"', 'opens a quote that it does not close'],
    ['"a\\', 'escapes neither'],
    ['"a\\b"', 'escapes neither'],
    ['"a\\n"', 'escapes neither'],
    ['a,b', 'is a list'],
    ['a, b', 'is a list'],
    [',', 'is a list'],
    ['"a","b"', 'is a list'],
    ['"a", "b"', 'is a list'],
    ['"a" "b"', 'is a list'],
    ['"a"b', 'goes on after its closing quote'],
    ['"a""b"', 'goes on after its closing quote'],
    ['"a"=1', 'goes on after its closing quote'],
    ['a\tb', 'not printable ASCII'],
    ['\t', 'not printable ASCII'],
    ['"a\tb"', 'not printable ASCII'],
    ['a\u0000b', 'not printable ASCII'],
    ['a\r\nX-Other: 1', 'not printable ASCII'],
    ['a\u007f', 'not printable ASCII'],
    ['"a\u007f"', 'not printable ASCII'],
    ['caf\u00e9', 'not printable ASCII'],
    ['"caf\u00e9"', 'not printable ASCII'],
    ['\u00ff\u00fe', 'not printable ASCII'],
    ['"\ud83d\ude00"', 'not printable ASCII'],
    ['\ufeffa', 'not printable ASCII'],
    ['"k";', 'malformed parameter'],
    ['"k";A=1', 'malformed parameter'],
    ['"k";a=', 'malformed parameter'],
    ['"k";a="x', 'malformed parameter'],
    ['"k";a="x\\"', 'malformed parameter'],
    ['"k";a="\u00e9"', 'malformed parameter'],
    ['"k";a=(1 2)', 'malformed parameter'],
    ['"k";a=1,"l"', 'is a list'],
    ['"k";;a', 'malformed parameter'],
  ])('refuses %j: it %s', (field, why) => {
    const error = refusal(field);
    expect(error.message).toContain(why);
    expect(error.message.startsWith(`${HEADER} `)).toBe(true);
    expect(error).toMatchObject({ code: 'idempotency_key_invalid', statusCode: 400, param: HEADER });
  });

  it('counts the bytes of the key, not of its quotes, escapes and parameters', () => {
    expect(parseKeyField('k'.repeat(MAX_KEY_BYTES), HEADER)).toHaveLength(255);
    expect(parseKeyField(quoted('"'.repeat(MAX_KEY_BYTES)), HEADER)).toBe('"'.repeat(255));
    expect(parseKeyField(`${quoted('\\'.repeat(MAX_KEY_BYTES))};a=${'1'.repeat(400)}`, HEADER)).toHaveLength(255);
    expect(refusal('k'.repeat(256)).message).toContain('longer than 255 bytes');
    expect(refusal(`"${'k'.repeat(256)}"`).message).toContain('longer than 255 bytes');
    expect(refusal(quoted('"'.repeat(256))).message).toContain('longer than 255 bytes');
  });

  it.each(['k', '"', '\\', '\\"', ';', ',', ' ', '\t', '@', '";a="', '";a=@', '"k";a', '\u00e9'])(
    'looks only at the length of a field of 10 kB or 64 kB that is made of %j',
    (piece) => {
      for (const bytes of [10_000, 65_536]) {
        for (const start of ['', '"', '"k";a=', '"k";a="']) {
          const field = (start + piece.repeat(bytes)).slice(0, bytes);
          const { result, ms } = measured(() => refusal(field));
          expect(result.message).toBe(`${HEADER} is longer than 255 bytes.`);
          expect(ms).toBeLessThan(100);
        }
      }
    },
  );

  it('takes one pass over the longest field that it looks at', () => {
    const worst = ['"k";a=', '"k";', '"', '"k";a="'].flatMap((start) =>
      ['@', ';a', '\\"', '\\\\', '";a="', ' ', '*'].map((piece) => (start + piece.repeat(1024)).slice(0, 1024)),
    );
    const { ms } = measured(() => {
      for (let round = 0; round < 100; round++) {
        for (const field of worst) {
          try {
            parseKeyField(field, HEADER);
          } catch (error) {
            if (!(error instanceof IdempotencyKeyInvalidError)) throw error;
          }
        }
      }
    });
    expect(ms).toBeLessThan(2_800); // 2,800 fields: a millisecond each would be many passes
  });

  it('never repeats a part of the key, whatever is wrong with it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }), (tail) => {
        const secret = 'Tenant7Secret';
        for (const field of [
          secret + tail,
          `"${secret}${tail}`,
          `"${secret}";${tail}`,
          `"${secret}";a=${secret}${tail}`,
        ]) {
          try {
            parseKeyField(field, HEADER);
          } catch (error) {
            expect((error as Error).message).not.toContain(secret);
            expect((error as Error).message.length).toBeLessThan(120);
          }
        }
      }),
    );
  });

  it('gives every printable key back from its quoted form, and the bare form is the same key', () => {
    fc.assert(
      fc.property(printableText, (key) => {
        fc.pre(key.length > 0 && key.length <= MAX_KEY_BYTES);
        expect(parseKeyField(quoted(key), HEADER)).toBe(key);
        if (!/[ ",;\\]/.test(key)) expect(parseKeyField(key, HEADER)).toBe(parseKeyField(quoted(key), HEADER));
      }),
    );
  });

  it('keeps keys apart that differ in case or in one character', () => {
    expect(parseKeyField('ABC', HEADER)).not.toBe(parseKeyField('abc', HEADER));
    fc.assert(
      fc.property(printableText, printableText, (a, b) => {
        fc.pre(a !== b && a.length > 0 && b.length > 0 && a.length <= 255 && b.length <= 255);
        expect(parseKeyField(quoted(a), HEADER)).not.toBe(parseKeyField(quoted(b), HEADER));
      }),
    );
  });

  it('agrees with another RFC 9651 parser on every quoted field that one writes', () => {
    const bareItem = fc.oneof(
      fc.integer({ min: -999_999_999, max: 999_999_999 }),
      fc.boolean(),
      printableText,
      fc.constantFrom(new Token('tok'), new Token('*a/b:c'), new Token("a!#$%&'*+-.^_`|~")),
      fc
        .uint8Array({ maxLength: 12 })
        .map((bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)),
      fc.integer({ min: 0, max: 4_000_000_000 }).map((seconds) => new Date(seconds * 1_000)),
    );
    const name = fc.stringMatching(/^[a-z*][a-z0-9_.*-]{0,8}$/);
    fc.assert(
      fc.property(printableText, fc.array(fc.tuple(name, bareItem), { maxLength: 4 }), (key, parameters) => {
        fc.pre(key.length > 0 && key.length <= MAX_KEY_BYTES);
        const field = serializeItem([key, new Map(parameters) as never]);
        fc.pre(field.length <= 1024);
        expect(parseKeyField(field, HEADER)).toBe(key);
      }),
      { numRuns: 500 },
    );
  });

  it('takes nothing for a String that another RFC 9651 parser reads otherwise', () => {
    const alphabet = fc.constantFrom(
      '"',
      '\\',
      'a',
      'B',
      '1',
      ';',
      '=',
      ' ',
      ',',
      '*',
      '-',
      '?',
      '_',
      '.',
      '\t',
      '\u00e9',
      '\u0000',
    );
    let accepted = 0;
    fc.assert(
      fc.property(fc.string({ unit: alphabet, maxLength: 12 }), (tail) => {
        const field = `"${tail}`;
        let key: string | undefined;
        try {
          key = parseKeyField(field, HEADER);
        } catch (error) {
          expect(error).toBeInstanceOf(IdempotencyKeyInvalidError);
        }
        let theirs: unknown;
        try {
          theirs = parseItem(field)[0];
        } catch {
          // Parameters are ignored, so their values are not checked to the last digit; the String itself is.
          if (key !== undefined) expect(parseItem(field.slice(0, quoted(key).length))[0]).toBe(key);
          return;
        }
        if (key !== undefined) {
          accepted += 1;
          expect(key).toBe(theirs);
        } else {
          // What only the other one reads: an empty key, or white space around the field, which HTTP strips.
          expect(theirs === '' || /\s$/.test(field)).toBe(true);
        }
      }),
      { numRuns: 5_000 },
    );
    expect(accepted).toBeGreaterThan(20);
  });
});

describe('checkKey', () => {
  it('gives a key of 1 to 255 printable characters back as it is', () => {
    for (const key of ['k', 'a b', 'a,b', '"q"', 'k'.repeat(255)]) expect(checkKey(key)).toBe(key);
  });

  it.each([
    [undefined, 'must be a string, not undefined'],
    [null, 'must be a string, not null'],
    [7, 'must be a string, not number'],
    [{ key: 'Tenant7Secret' }, 'must be a string, not object'],
    [['Tenant7Secret'], 'must be a string, not object'],
    ['', 'is empty'],
    ['k'.repeat(256), 'is longer than 255 bytes'],
    ['Tenant7Secret\n', 'not printable ASCII'],
    ['Tenant7Secret\u00e9', 'not printable ASCII'],
    ['Tenant7Secret\ud800', 'not printable ASCII'],
  ])('refuses %j: it %s', (key, why) => {
    const check = (): string => checkKey(key);
    expect(check).toThrow(IdempotencyKeyInvalidError);
    expect(check).toThrow(why);
    expect(check).not.toThrow(/Tenant7Secret/);
  });

  it('names the argument that it was given', () => {
    expect(() => checkKey('', 'jobId')).toThrow('jobId is empty.');
  });

  it('accepts exactly what is printable ASCII', () => {
    for (let code = 0; code < 0x300; code++) {
      const key = `a${String.fromCharCode(code)}`;
      if (printable(code)) expect(checkKey(key)).toBe(key);
      else expect(() => checkKey(key)).toThrow(IdempotencyKeyInvalidError);
    }
  });
});
