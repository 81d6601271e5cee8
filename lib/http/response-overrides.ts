import type { EventEmitter } from 'node:events';
import { ServerResponse } from 'node:http';

export type Callback = (error?: Error | null) => void;
export type Chunk = string | Uint8Array;
export type Method = (this: ServerResponse, ...args: unknown[]) => unknown;

/** The methods that are replaced on a response; middleware may have replaced some before. */
export const METHODS = [
  'writeHead',
  'write',
  'end',
  'destroy',
  'flushHeaders',
  'emit',
  'setHeader',
  'appendHeader',
  'removeHeader',
  'on',
  'addListener',
  'prependListener',
  'once',
  'prependOnceListener',
  'off',
  'removeListener',
] as const;
export type MethodName = (typeof METHODS)[number];

type ListenerMethod = Extract<
  MethodName,
  'on' | 'addListener' | `prepend${string}` | 'once' | 'off' | 'removeListener'
>;

/** States of a response that are computed where they are asked for. `destroyed` is a plain field, which Node sets. */
export type SeenState = 'headersSent' | 'writableEnded' | 'closed';

/** What the application asks of its response, answered by the wire. */
export interface AppSide {
  writeHead(args: readonly unknown[]): void;
  flushHeaders(): void;
  write(chunk: Chunk, encoding: BufferEncoding | undefined, callback: Callback | undefined): boolean;
  end(chunk: Chunk | undefined, encoding: BufferEncoding | undefined, callback: Callback | undefined): void;
  destroy(error: Error | undefined): void;
  /** Listeners of the application for `drain`, which the wire wakes; undefined for middleware through which it sends. */
  readonly waiting: EventEmitter | undefined;
  /** True where the event may go on to its listeners. */
  lets(event: string | symbol): boolean;
  /** What the application sees of the response's state. */
  seen(property: SeenState): unknown;
  /** Whether headers may still be set: after the answer is out, they have nowhere to go. */
  readonly takesHeaders: boolean;
  /** Calls a method as it was before the wire took its place. */
  call(name: MethodName, ...args: unknown[]): unknown;
}

export const WIRE = Symbol('idempotency wire');
export type WiredResponse = ServerResponse & { [WIRE]: AppSide };

/** The response as it was before a wire took the place of its methods. */
export interface Original {
  /** What it inherited its methods from. */
  readonly prototype: ServerResponse;
  /** Methods of its own: middleware has replaced them on this one response. */
  readonly own: Partial<Record<MethodName, Method>> | undefined;
}

/**
 * Puts the wire in the place of the response's own methods.
 *
 * On a response as Node makes it by assignment, one after the other and the same functions for all responses: so V8
 * keeps one shape for them (under 1 microsecond; by another prototype, each later access would be slower). Express has
 * given its responses another prototype, and from then on V8 makes a new shape for each property that is added to one
 * (45 microseconds for all of these): there they get one more prototype instead, and few properties.
 */
export function overrideResponse(response: ServerResponse, wire: AppSide): Original {
  let own: Partial<Record<MethodName, Method>> | undefined;
  for (const name of METHODS) if (Object.hasOwn(response, name)) (own ??= {})[name] = response[name] as Method;
  const original = { prototype: Object.getPrototypeOf(response) as ServerResponse, own };
  (response as WiredResponse)[WIRE] = wire;
  const methods = response as unknown as Record<string, unknown>;
  if (original.prototype === ServerResponse.prototype) {
    overrideAll(response);
  } else {
    Object.setPrototypeOf(response, overriding(original.prototype));
    for (const name of OVERRIDDEN)
      if (SENDING_BY_APP.has(name) || Object.hasOwn(response, name)) methods[name] = OVERRIDES[name];
  }
  return original;
}

/**
 * What the application sends bytes with is always the response's own: an Express application that this one is mounted in
 * sets the prototype again when a request comes back to it, and what it answers must not get past the wire.
 */
const SENDING_BY_APP: ReadonlySet<string> = new Set(['writeHead', 'write', 'end']);

const overridingPrototypes = new WeakMap<ServerResponse, ServerResponse>();

function overriding(prototype: ServerResponse): ServerResponse {
  let found = overridingPrototypes.get(prototype);
  if (!found) {
    found = Object.create(prototype) as ServerResponse;
    overrideAll(found);
    overridingPrototypes.set(prototype, found);
  }
  return found;
}

function overrideAll(target: ServerResponse): void {
  const methods = target as unknown as Record<string, unknown>;
  for (const name of OVERRIDDEN) methods[name] = OVERRIDES[name];
  for (const [name, state] of STATES) Object.defineProperty(target, name, state);
}

function textOrCallback<T>(value: T | Callback | undefined): value is T {
  return typeof value !== 'function';
}

/** The same for all responses: each finds its wire by the symbol. */
const OVERRIDES: Record<string, (this: WiredResponse, ...args: never[]) => unknown> = {
  writeHead: function (this: WiredResponse, ...args: unknown[]) {
    this[WIRE].writeHead(args);
    return this;
  },
  // Node and middleware that wraps `end` (sessions, compression) send the head by this one, which would
  // call the `writeHead` above and be taken for the application.
  _implicitHeader: function (this: WiredResponse) {
    this[WIRE].call('writeHead', this.statusCode);
  },
  flushHeaders: function (this: WiredResponse) {
    this[WIRE].flushHeaders();
  },
  write: function (this: WiredResponse, chunk: Chunk, encoding?: BufferEncoding | Callback, callback?: Callback) {
    return textOrCallback(encoding)
      ? this[WIRE].write(chunk, encoding, callback)
      : this[WIRE].write(chunk, undefined, encoding);
  },
  end: function (
    this: WiredResponse,
    chunk?: Chunk | Callback,
    encoding?: BufferEncoding | Callback,
    callback?: Callback,
  ) {
    if (typeof chunk === 'function') this[WIRE].end(undefined, undefined, chunk);
    else if (textOrCallback(encoding)) this[WIRE].end(chunk, encoding, callback);
    else this[WIRE].end(chunk, undefined, encoding);
    return this;
  },
  destroy: function (this: WiredResponse, error?: Error) {
    this[WIRE].destroy(error);
    return this;
  },
  emit: function (this: WiredResponse, event: string | symbol, ...args: unknown[]) {
    return this[WIRE].lets(event) ? this[WIRE].call('emit', event, ...args) : false;
  },
  on: listening('on'),
  addListener: listening('addListener'),
  prependListener: listening('prependListener'),
  once: listening('once'),
  prependOnceListener: listening('prependOnceListener'),
  off: listening('off'),
  removeListener: listening('removeListener'),
  setHeader: function (this: WiredResponse, name: string, value: string) {
    if (this[WIRE].takesHeaders) this[WIRE].call('setHeader', name, value);
    return this;
  },
  appendHeader: function (this: WiredResponse, name: string, value: string) {
    if (this[WIRE].takesHeaders) this[WIRE].call('appendHeader', name, value);
    return this;
  },
  removeHeader: function (this: WiredResponse, name: string) {
    if (this[WIRE].takesHeaders) this[WIRE].call('removeHeader', name);
  },
};

const OVERRIDDEN = Object.keys(OVERRIDES);

const STATES = (['headersSent', 'writableEnded', 'closed'] as const).map((name) => [name, state(name)] as const);

function listening(name: ListenerMethod): (this: WiredResponse, ...args: never[]) => unknown {
  return function (this: WiredResponse, event: string | symbol, listener: (...args: unknown[]) => void) {
    const waiting = event === 'drain' ? this[WIRE].waiting : undefined;
    waiting?.[name](event, listener);
    // What was there before the response was held is removed from where it is.
    if (!waiting || name === 'off' || name === 'removeListener') this[WIRE].call(name, event, listener);
    return this;
  };
}

function state(property: SeenState): PropertyDescriptor {
  return {
    configurable: true,
    enumerable: false,
    get(this: WiredResponse) {
      return this[WIRE].seen(property);
    },
  };
}
