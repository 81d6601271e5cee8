import fc from 'fast-check';
import { parseDuration } from '../../../lib/core/duration.js';
import { IdempotencyConfigError } from '../../../lib/core/errors.js';

const DAY = 86_400_000;

describe('parseDuration', () => {
  it.each([
    [1, 1],
    [250, 250],
    ['1ms', 1],
    ['250ms', 250],
    ['30s', 30_000],
    ['1.5s', 1_500],
    ['0.001s', 1],
    ['15m', 900_000],
    ['24h', DAY],
    ['7d', 7 * DAY],
    ['3650d', 3650 * DAY],
    [1.4, 1],
    [1_000.5, 1_001],
  ])('reads %j as %d ms', (value, ms) => {
    expect(parseDuration(value, 'lease')).toBe(ms);
  });

  it.each([
    [0],
    [-1],
    ['-5s'],
    ['0s'],
    ['0.5ms'],
    [0.5],
    [NaN],
    [Infinity],
    [-Infinity],
    [5n],
    ['3651d'],
    [3651 * DAY],
    ['999999999999d'],
    ['1e3s'],
    ['1_000ms'],
    ['+5s'],
    ['5'],
    ['s'],
    [''],
    [' 5s'],
    ['5 s'],
    ['5s '],
    ['5S'],
    ['5min'],
    ['5w'],
    ['5m30s'],
    ['.5s'],
    ['5.s'],
    ['0x10ms'],
    ['\u0665s'],
    ['soon'],
    [true],
    [null],
    [undefined],
    [{}],
    [[30]],
    [new Date(5)],
    [Symbol('5s')],
    [() => 5],
  ])('refuses %p, names the option and says what to write', (value) => {
    const parse = (): number => parseDuration(value, 'IdempotencyModule.lease');
    expect(parse).toThrow(IdempotencyConfigError);
    expect(parse).toThrow(/^IdempotencyModule\.lease: .* is no duration\. Write milliseconds .*'30s'/s);
  });

  it('gives whole milliseconds from 1 up for every number with a unit', () => {
    const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: DAY };
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3_650 }),
        fc.constantFrom(...(Object.keys(units) as (keyof typeof units)[])),
        (count, unit) => {
          expect(parseDuration(`${count}${unit}`, 'o')).toBe(count * units[unit]);
        },
      ),
    );
  });

  it('never gives something that is no duration, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789.-+e msmhd') }), (text) => {
        let ms: number;
        try {
          ms = parseDuration(text, 'o');
        } catch (error) {
          expect(error).toBeInstanceOf(IdempotencyConfigError);
          return;
        }
        expect(Number.isSafeInteger(ms) && ms >= 1 && ms <= 3_650 * DAY).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  it('does not repeat a long text at length', () => {
    expect(() => parseDuration('x'.repeat(10_000), 'o')).toThrow(/^.{1,250}$/s);
  });
});
