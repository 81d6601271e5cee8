import { randomUUID } from 'node:crypto';
import { ExactNumber } from './canonical.js';

/** A number of 16 digits or more, or with an exponent, may be one that a double cannot hold. */
const MAYBE_INEXACT = /\d[\d.]{15}|\d[eE][+-]?\d/;

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
    // A mark that nobody can know, so that no text in it, escaped or not, can pass for a number.
    const mark = randomUUID();
    const root = [JSON.parse(markInexactNumbers(text, mark)) as unknown];
    restoreNumbers(root, mark);
    return { value: root[0] };
  } catch {
    return undefined;
  }
}

/** Puts an `ExactNumber` in the place of each marked text. No recursion: a body may be 100,000 levels deep. */
function restoreNumbers(root: unknown[], mark: string): void {
  const open: object[] = [root];
  for (let holder = open.pop(); holder; holder = open.pop()) {
    for (const name of Object.keys(holder)) {
      if (name.startsWith(mark)) throw new SyntaxError('A number where a name must be.');
      const value = (holder as Record<string, unknown>)[name];
      if (typeof value === 'object' && value !== null) open.push(value);
      else if (typeof value === 'string' && value.startsWith(mark))
        (holder as Record<string, unknown>)[name] = new ExactNumber(value.slice(mark.length));
    }
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
  const match = /^(-?)(0|[1-9]\d*)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(token);
  if (!match) return undefined;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = trimZeros(whole + fraction);
  if (digits.text === '') return '0';
  // Beyond what can be counted with, two numbers are one only where they are written alike.
  if (exponent.length > 15) return `${sign}${whole}.${fraction}e${exponent}`;
  return `${sign}${digits.text}e${Number(exponent) - fraction.length + digits.trailing}`;
}

function trimZeros(digits: string): { text: string; trailing: number } {
  let start = 0;
  let end = digits.length;
  while (start < end && digits[start] === '0') start += 1;
  while (end > start && digits[end - 1] === '0') end -= 1;
  return { text: digits.slice(start, end), trailing: digits.length - end };
}
