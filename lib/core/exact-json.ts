import { ExactNumber } from './canonical.js';

/** A number of this many digits, or with an exponent, may be one that a double cannot hold. */
const MAYBE_INEXACT = /\d{16}|\d[eE][+-]?\d|\.\d{15}|\d{8}\.\d{8}/;

/**
 * Parses JSON and keeps apart the numbers that `JSON.parse` makes equal: each number that a double
 * cannot hold exactly comes back as an `ExactNumber`. Without that, 9007199254740993 and
 * 9007199254740992 would be one amount, and the second payer would get the first one's receipt.
 *
 * Returns undefined where the text is no JSON.
 */
export function readExactJson(text: string): { readonly value: unknown } | undefined {
  try {
    if (!MAYBE_INEXACT.test(text)) return { value: JSON.parse(text) as unknown };
    // A mark that the text has not got, so that no string in it can pass for a number.
    let mark = '#';
    while (text.includes(mark)) mark += '#';
    const marked = markInexactNumbers(text, mark);
    return {
      value: JSON.parse(marked, (_name, value: unknown) =>
        typeof value === 'string' && value.startsWith(mark) ? new ExactNumber(value.slice(mark.length)) : value,
      ) as unknown,
    };
  } catch {
    return undefined;
  }
}

/** Puts each number outside of strings that a double cannot hold into quotes, behind the mark. */
function markInexactNumbers(text: string, mark: string): string {
  let out = '';
  let copied = 0;
  let i = 0;
  while (i < text.length) {
    const char = text[i]!;
    if (char === '"') {
      i = endOfString(text, i);
    } else if (char === '-' || (char >= '0' && char <= '9')) {
      const end = endOfNumber(text, i);
      const exact = inexactForm(text.slice(i, end));
      if (exact !== undefined) {
        out += `${text.slice(copied, i)}"${mark}${exact}"`;
        copied = end;
      }
      i = end;
    } else {
      i += 1;
    }
  }
  return out + text.slice(copied);
}

function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
  return i + 1;
}

function endOfNumber(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && '0123456789+-.eE'.includes(text[i]!)) i += 1;
  return i;
}

/** The number in one decimal form, or undefined where a double holds it exactly (or it is no number). */
function inexactForm(token: string): string | undefined {
  const written = decimalForm(token);
  if (written === undefined) return undefined;
  return decimalForm(String(Number(token))) === written ? undefined : written;
}

/** `-12.50e3` as `-125e2`: digits without zeros at either end, and the exponent of the last one. */
function decimalForm(token: string): string | undefined {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,15}))?$/.exec(token);
  if (!match) return undefined;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = trimZeros(whole + fraction);
  if (digits.text === '') return '0';
  return `${sign}${digits.text}e${Number(exponent) - fraction.length + digits.trailing}`;
}

function trimZeros(digits: string): { text: string; trailing: number } {
  let start = 0;
  let end = digits.length;
  while (start < end && digits[start] === '0') start += 1;
  while (end > start && digits[end - 1] === '0') end -= 1;
  return { text: digits.slice(start, end), trailing: digits.length - end };
}
