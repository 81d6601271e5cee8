/**
 * A number as it was written, for those that JavaScript cannot tell from their neighbours
 * (9007199254740993, 1e400). Made by `readExactJson`.
 */
export class ExactNumber {
  constructor(readonly text: string) {}
}

type Frame =
  | { readonly kind: 'array'; readonly source: readonly unknown[]; next: number }
  | {
      readonly kind: 'object';
      readonly source: Readonly<Record<string, unknown>>;
      readonly names: readonly string[];
      next: number;
    };

/**
 * One text for all ways to write the same JSON value: members sorted by UTF-16 code units, no white
 * space, escapes and numbers in one form. Absent and null differ, as do arrays in another order and
 * texts in another Unicode normal form. Values that JSON has not (dates, bytes, NaN, bigint) get a
 * form that no JSON value has; one with a `toJSON` method is what that says.
 *
 * `omit` names members that do not count, as dot paths (`'metadata.sentAt'`; `*` is any member or
 * any element of an array).
 *
 * It keeps its own stack: a body of 100,000 nested brackets is a text of 100 kB, and recursion
 * would end the process's patience long before the parser's.
 */
export function canonicalText(root: unknown, omit?: readonly string[]): string {
  const omitted = omit && omit.length > 0 ? omit.map((path) => path.split('.')) : undefined;
  const stack: Frame[] = [];
  let open: Set<unknown> | undefined; // what is on a deep stack
  const path: string[] = [];
  let out = '';
  let value = root;
  for (;;) {
    value = jsonForm(value);
    const scalar = scalarText(value);
    if (scalar !== undefined) {
      out += scalar;
    } else {
      // A value that contains itself gets deep, and is on the stack already.
      if (stack.length >= SUSPICIOUS_DEPTH) {
        open ??= new Set(stack.map(({ source }) => source));
        if (open.has(value)) throw new TypeError('The payload contains itself; it has no canonical form.');
        open.add(value);
      }
      if (Array.isArray(value)) {
        out += '[';
        stack.push({ kind: 'array', source: value, next: 0 });
      } else {
        const source = value as Readonly<Record<string, unknown>>;
        out += '{';
        stack.push({ kind: 'object', source, names: memberNames(source, path, omitted), next: 0 });
      }
    }

    let frame = stack[stack.length - 1];
    while (frame && frame.next === (frame.kind === 'array' ? frame.source.length : frame.names.length)) {
      out += frame.kind === 'array' ? ']' : '}';
      open?.delete(frame.source);
      stack.pop();
      path.length = Math.max(0, stack.length - 1);
      frame = stack[stack.length - 1];
    }
    if (!frame) return out;
    if (frame.next > 0) out += ',';
    if (frame.kind === 'array') {
      if (omitted) path[stack.length - 1] = '*';
      value = frame.source[frame.next];
    } else {
      const name = frame.names[frame.next]!;
      if (omitted) path[stack.length - 1] = name;
      out += JSON.stringify(name) + ':';
      value = frame.source[name];
    }
    frame.next += 1;
  }
}

/** From this depth on a value is looked for in itself: a list of what is on the stack costs, and few bodies are deeper. */
const SUSPICIOUS_DEPTH = 16;

/** Up to this many names are sorted by insertion. */
const FEW_NAMES = 24;

type PathPattern = readonly string[];

function memberNames(
  source: Readonly<Record<string, unknown>>,
  path: readonly string[],
  omitted: readonly PathPattern[] | undefined,
): readonly string[] {
  const names = Object.keys(source);
  // A member that is undefined is one that the handler cannot tell from an absent one.
  const present = names.some((name) => source[name] === undefined)
    ? names.filter((name) => source[name] !== undefined)
    : names;
  sortNames(present);
  // The length first: a path of 100,000 names is not compared at each of 100,000 levels.
  const patterns = omitted?.filter(
    (pattern) => pattern.length === path.length + 1 && path.every((name, i) => matches(pattern[i], name)),
  );
  if (!patterns || patterns.length === 0) return present;
  return present.filter((name) => !patterns.some((pattern) => matches(pattern[path.length], name)));
}

/** By insertion where they are few: the engine's own sort makes two lists for each call. Many could be a client's attack. */
function sortNames(names: string[]): void {
  if (names.length > FEW_NAMES) {
    names.sort();
    return;
  }
  for (let i = 1; i < names.length; i += 1) {
    const name = names[i]!;
    let at = i;
    for (; at > 0 && names[at - 1]! > name; at -= 1) names[at] = names[at - 1]!;
    names[at] = name;
  }
}

const matches = (part: string | undefined, name: string): boolean => part === '*' || part === name;

/** What a value says that it is: a URL, a decimal, a class with private fields. */
function jsonForm(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Date || ArrayBuffer.isView(value)) return value;
  const { toJSON } = value as { toJSON?: unknown };
  return typeof toJSON === 'function' ? (toJSON.call(value, '') as unknown) : value;
}

/** The text of a value without members, or undefined for an array or an object. */
function scalarText(value: unknown): string | undefined {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value);
    case 'number':
      // -0 is 0 to every handler that compares; NaN and Infinity are no null.
      return Object.is(value, -0) ? '0' : String(value);
    case 'boolean':
      return String(value);
    case 'bigint':
      return `bigint:${value}`;
    case 'undefined':
      return 'undefined';
    case 'function':
    case 'symbol':
      return `${typeof value}:`;
    default:
      return objectText(value as object | null);
  }
}

function objectText(value: object | null): string | undefined {
  if (value === null) return 'null';
  if (value instanceof ExactNumber) return value.text;
  if (value instanceof Date) return `date:${value.getTime()}`;
  if (ArrayBuffer.isView(value))
    return `bytes:${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')}`;
  if (value instanceof ArrayBuffer) return `bytes:${Buffer.from(value).toString('base64')}`;
  if (value instanceof Map) return `map:${canonicalText([...value])}`;
  if (value instanceof Set) return `set:${canonicalText([...value])}`;
  return undefined;
}
