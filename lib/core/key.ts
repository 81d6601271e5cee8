import { IdempotencyKeyInvalidError } from './errors.js';

/** Longest idempotency key, in bytes of the key itself (without quotes and parameters). */
export const MAX_KEY_BYTES = 255;

/**
 * Longest field value that is looked at: a key in which every character is escaped, its quotes,
 * and as much again for parameters. What is longer is refused by its length alone.
 */
const MAX_FIELD_LENGTH = 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const SEMICOLON = 0x3b;
const COMMA = 0x2c;
const TILDE = 0x7e;

/**
 * Reads the key from the value of an `Idempotency-Key` field: an RFC 9651 String (`"k"`, parameters
 * ignored) or, as nearly every client sends it, the bare text (`k`). Both are the same key.
 * One pass over at most 1,024 characters; no regular expression sees a client's bytes.
 *
 * @throws IdempotencyKeyInvalidError that says what is wrong without repeating the key
 */
export function parseKeyField(field: string, header: string): string {
  if (field.length > MAX_FIELD_LENGTH) throw invalid(header, tooLong());
  const key = field.charCodeAt(0) === QUOTE ? parseString(field, header) : parseBare(field, header);
  if (key.length > MAX_KEY_BYTES) throw invalid(header, tooLong());
  return key;
}

/**
 * Checks a key that came by another way than the header (a function, a message, a job): 1 to 255
 * printable ASCII characters.
 */
export function checkKey(key: unknown, param = 'key'): string {
  if (typeof key !== 'string') throw invalid(param, `must be a string, not ${key === null ? 'null' : typeof key}`);
  if (key.length === 0) throw invalid(param, 'is empty');
  if (key.length > MAX_KEY_BYTES) throw invalid(param, tooLong());
  for (let i = 0; i < key.length; i++) {
    if (!isPrintable(key.charCodeAt(i))) throw invalid(param, 'has a character that is not printable ASCII');
  }
  return key;
}

function parseBare(field: string, header: string): string {
  if (field.length === 0) throw invalid(header, 'is empty');
  for (let i = 0; i < field.length; i++) {
    const code = field.charCodeAt(i);
    if (!isPrintable(code)) throw invalid(header, 'has a character that is not printable ASCII');
    if (code === COMMA) throw invalid(header, 'is a list, or was sent twice; send one key');
    if (code === SPACE || code === QUOTE || code === BACKSLASH || code === SEMICOLON) {
      throw invalid(header, 'has a character that is only allowed inside quotes (space, ", \\ or ;)');
    }
  }
  return field;
}

function parseString(field: string, header: string): string {
  let key = '';
  let i = 1;
  for (;;) {
    if (i >= field.length) throw invalid(header, 'opens a quote that it does not close');
    const code = field.charCodeAt(i);
    if (code === QUOTE) break;
    if (code === BACKSLASH) {
      const escaped = field.charCodeAt(i + 1);
      if (escaped !== QUOTE && escaped !== BACKSLASH) {
        throw invalid(header, 'has a backslash that escapes neither " nor \\');
      }
      key += field[i + 1];
      i += 2;
      continue;
    }
    if (!isPrintable(code)) throw invalid(header, 'has a character that is not printable ASCII');
    key += field[i];
    i += 1;
  }
  if (key.length === 0) throw invalid(header, 'is empty');
  skipParameters(field, i + 1, header);
  return key;
}

/** What follows the String must be parameters; their syntax is checked and their content ignored. */
function skipParameters(field: string, start: number, header: string): void {
  let i = start;
  while (i < field.length) {
    if (field.charCodeAt(i) === COMMA || field.charCodeAt(i) === SPACE) {
      throw invalid(header, 'is a list, or was sent twice; send one key');
    }
    if (field.charCodeAt(i) !== SEMICOLON) throw invalid(header, 'goes on after its closing quote');
    i += 1;
    while (field.charCodeAt(i) === SPACE) i += 1;
    i = skipParameterName(field, i, header);
    if (field[i] === '=') i = skipBareItem(field, i + 1, header);
  }
}

function skipParameterName(field: string, start: number, header: string): number {
  const first = field[start] ?? '';
  if (!(isLower(first) || first === '*')) throw invalid(header, 'has a malformed parameter');
  let i = start + 1;
  while (i < field.length && (isLower(field[i]!) || isDigit(field[i]!) || '_-.*'.includes(field[i]!))) i += 1;
  return i;
}

/** Skips an RFC 9651 bare item: a String, or any run of characters that tokens, numbers, bytes, booleans and dates are made of. */
function skipBareItem(field: string, start: number, header: string): number {
  let i = start;
  if (field[i] === '%' && field[i + 1] === '"') i += 1;
  if (field[i] === '"') {
    i += 1;
    while (i < field.length && field[i] !== '"') {
      if (!isPrintable(field.charCodeAt(i))) throw invalid(header, 'has a malformed parameter');
      i += field[i] === '\\' ? 2 : 1;
    }
    if (i >= field.length) throw invalid(header, 'has a malformed parameter');
    return i + 1;
  }
  while (i < field.length && isPrintable(field.charCodeAt(i)) && !' ",;\\()<>@[]{}'.includes(field[i]!)) i += 1;
  if (field[i] === '@' && i === start) return skipBareItem(field, i + 1, header);
  if (i === start) throw invalid(header, 'has a malformed parameter');
  return i;
}

const isPrintable = (code: number): boolean => code >= SPACE && code <= TILDE;
const isLower = (char: string): boolean => char >= 'a' && char <= 'z';
const isDigit = (char: string): boolean => char >= '0' && char <= '9';
const tooLong = (): string => `is longer than ${MAX_KEY_BYTES} bytes`;

function invalid(param: string, what: string): IdempotencyKeyInvalidError {
  return new IdempotencyKeyInvalidError(`${param} ${what}.`, { param });
}
