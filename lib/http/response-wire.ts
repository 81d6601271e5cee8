import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { connectionThatStays, type StayingConnection } from './staying-connection.js';
import { BODY_HEADERS } from './kept-headers.js';
import type { RecordedHeader } from '../core/record.js';

type Callback = (error?: Error | null) => void;
type Method = (this: ServerResponse, ...args: unknown[]) => unknown;

/** The methods that are replaced on a response; middleware may have replaced some before. */
const METHODS = [
  'writeHead',
  'write',
  'end',
  'flushHeaders',
  'emit',
  'setHeader',
  'appendHeader',
  'removeHeader',
] as const;
type MethodName = (typeof METHODS)[number];
type Chunk = string | Uint8Array;

/** A response as the application ended it, while it is held back. */
export interface HeldResponse {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  /** Undefined where the body outgrew the limit: its head has gone out and its end is held. */
  readonly body: Buffer | undefined;
}

/**
 * `open`: nothing is held. `holding`: what the application writes is kept here. `passing`: it goes
 * through. `answered`: the answer is out, and what the application still writes is dropped.
 */
type State = 'open' | 'holding' | 'passing' | 'answered';

const WIRE = Symbol('idempotency wire');
type WiredResponse = ServerResponse & { [WIRE]: ResponseWire };

/**
 * Sits on the raw response, where every way to answer ends: values, streams, redirects, views,
 * filters, and handlers that write by themselves; on Express and Fastify alike.
 *
 * While it holds, nothing leaves the process until the record is written, and the application does
 * not see that the client has left: no stream of its own is torn down, no Observable unsubscribed.
 */
export class ResponseWire {
  private state: State = 'open';
  private chunks: Buffer[] = [];
  private heldBytes = 0;
  private limit = 0;
  private head: { status: number; reason: string | undefined; headers: OutgoingHttpHeaders } | undefined;
  private outgrown = false;
  private appEnded = false;
  private endCallbacks: Callback[] = [];
  private clientLeft = false;
  private onEnd: ((held: HeldResponse) => void) | undefined;
  private onLeave: (() => void) | undefined;
  private connection: StayingConnection | undefined;
  private readonly original = {} as Record<MethodName, Method>;

  constructor(
    private readonly request: IncomingMessage,
    private readonly response: ServerResponse,
  ) {}

  /** Holds back what the application writes, until `letGo`, `replace` or the body outgrows `limit` bytes. */
  hold(limit: number, onEnd: (held: HeldResponse) => void, onLeave: () => void): void {
    this.install();
    this.state = 'holding';
    this.limit = limit;
    this.onEnd = onEnd;
    this.onLeave = onLeave;
    this.connection = connectionThatStays(this.request);
    this.clientLeft = ResponseWire.real(this.response, 'destroyed') === true || this.connection.isGone;
    if (this.clientLeft) onLeave();
  }

  /** Lets go what was held. */
  letGo(): void {
    const callback = this.takeEndCallback();
    if (this.outgrown) {
      this.call('end', callback);
    } else {
      const body = Buffer.concat(this.chunks);
      this.sendHead();
      if (body.byteLength > 0) this.call('end', body, callback);
      else this.call('end', callback);
    }
    this.finish();
  }

  /**
   * Sends this answer instead of what was held or will be written. Where the head of a body that
   * outgrew the limit is out already, the connection is cut: better no end than a false one.
   */
  replace(status: number, headers: readonly RecordedHeader[], body: Uint8Array): void {
    this.install();
    if (this.outgrown || ResponseWire.real(this.response, 'headersSent') === true) {
      this.response.socket?.destroy();
    } else {
      for (const name of BODY_HEADERS) this.response.removeHeader(name);
      setHeaders(this.response, headers);
      const hasBody = status !== 204 && status !== 304;
      if (hasBody) this.response.setHeader('content-length', body.byteLength);
      this.call('writeHead', status);
      this.call('end', hasBody ? body : undefined, this.takeEndCallback());
    }
    this.finish();
  }

  private finish(): void {
    this.state = 'answered';
    this.chunks = [];
    this.connection?.release();
    // The client left while the response was held; now whoever waits for it may know.
    if (this.clientLeft) process.nextTick(() => this.call('emit', 'close'));
  }

  // --- what the application calls -------------------------------------------------------------

  writeHead(args: readonly unknown[]): void {
    if (this.state === 'passing' || this.state === 'open') {
      this.call('writeHead', ...args);
      return;
    }
    if (this.state === 'answered' || this.head) return;
    const [status, second, third] = args;
    const reason = typeof second === 'string' ? second : undefined;
    const named = (reason === undefined ? (second ?? third) : third) as
      OutgoingHttpHeaders | readonly unknown[] | undefined;
    this.head = { status: Number(status), reason, headers: headersOf(named) };
  }

  flushHeaders(): void {
    if (this.state === 'passing' || this.state === 'open') this.call('flushHeaders');
  }

  write(chunk: Chunk, encoding: BufferEncoding | undefined, callback: Callback | undefined): boolean {
    if (this.state === 'passing' || this.state === 'open') {
      return this.call('write', chunk, encoding, callback) as boolean;
    }
    if (this.state === 'holding' && !this.appEnded) {
      const more = this.keep(chunk, encoding);
      if (callback) process.nextTick(callback);
      return more;
    }
    if (callback) process.nextTick(callback);
    return true;
  }

  end(chunk: Chunk | undefined, encoding: BufferEncoding | undefined, callback: Callback | undefined): void {
    if (this.state === 'open') {
      this.call('end', chunk, encoding, callback);
      return;
    }
    if (this.appEnded) {
      if (callback) process.nextTick(callback);
      return;
    }
    this.appEnded = true;
    if (this.state === 'answered') {
      if (callback) process.nextTick(callback);
      return;
    }
    if (callback) this.endCallbacks.push(callback);
    if (chunk !== undefined && chunk !== null) this.keep(chunk, encoding);
    this.onEnd?.({
      status: this.head?.status ?? this.response.statusCode,
      headers: { ...this.response.getHeaders(), ...this.head?.headers },
      body: this.outgrown ? undefined : Buffer.concat(this.chunks),
    });
  }

  /** True where the event may go on to its listeners. */
  lets(event: string | symbol): boolean {
    if (event !== 'close' || this.state === 'open' || this.state === 'answered') return true;
    this.clientLeft = true;
    // A source that was paused for the client's sake has nobody to wait for any more.
    if (this.outgrown) process.nextTick(() => this.call('emit', 'drain'));
    this.onLeave?.();
    return false;
  }

  /** What the application sees of the response's state. */
  seen(property: 'headersSent' | 'writableEnded' | 'destroyed' | 'closed'): unknown {
    if (this.state === 'open') return ResponseWire.real(this.response, property);
    if (property === 'destroyed' || property === 'closed') {
      return this.state === 'answered' ? ResponseWire.real(this.response, property) : false;
    }
    if (property === 'writableEnded') return this.appEnded;
    return (
      this.appEnded || this.outgrown || (this.state === 'holding' && (this.head !== undefined || this.heldBytes > 0))
    );
  }

  /** Whether headers may still be set: after the answer is out, they have nowhere to go. */
  get takesHeaders(): boolean {
    return this.state !== 'answered';
  }

  // --------------------------------------------------------------------------------------------

  private keep(chunk: Chunk, encoding: BufferEncoding | undefined): boolean {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk);
    if (this.outgrown) return this.clientLeft || (this.call('write', bytes) as boolean);
    this.chunks.push(bytes);
    this.heldBytes += bytes.byteLength;
    if (this.heldBytes <= this.limit) return true;
    // Too large to keep: what is held goes out, the rest follows as it comes, and only the end waits
    // for the record. Memory stays bounded whatever the size.
    this.outgrown = true;
    this.sendHead();
    const held = Buffer.concat(this.chunks);
    this.chunks = [];
    return this.clientLeft || (this.call('write', held) as boolean);
  }

  /** Calls a method as it was before this wire took its place. */
  call(name: MethodName, ...args: unknown[]): unknown {
    return this.original[name].apply(this.response, args);
  }

  private sendHead(): void {
    if (!this.head) return;
    const { status, reason, headers } = this.head;
    if (reason === undefined) this.call('writeHead', status, headers);
    else this.call('writeHead', status, reason, headers);
  }

  private takeEndCallback(): () => void {
    const callbacks = this.endCallbacks;
    this.endCallbacks = [];
    return () => callbacks.forEach((callback) => callback());
  }

  private install(): void {
    if ((this.response as Partial<WiredResponse>)[WIRE]) return;
    const { response } = this;
    for (const name of METHODS) this.original[name] = response[name] as Method;
    (response as WiredResponse)[WIRE] = this;
    this.ownDestroyed = response.destroyed;
    Object.defineProperties(response, OVERRIDES);
  }

  /** `destroyed` is a plain field of the response that Node sets; its value moves here. */
  ownDestroyed = false;

  private static real(
    response: ServerResponse,
    property: 'headersSent' | 'writableEnded' | 'destroyed' | 'closed',
  ): unknown {
    const wire = (response as Partial<WiredResponse>)[WIRE];
    if (property === 'destroyed') return wire ? wire.ownDestroyed : response.destroyed;
    return Reflect.get(Object.getPrototypeOf(response) as object, property, response);
  }
}

function headersOf(given: OutgoingHttpHeaders | readonly unknown[] | undefined): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  if (!given) return headers;
  if (!Array.isArray(given)) {
    for (const [name, value] of Object.entries(given)) headers[name.toLowerCase()] = value as string | string[];
    return headers;
  }
  const flat = given.flat() as string[];
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = flat[i]!.toLowerCase();
    const before = headers[name];
    headers[name] =
      before === undefined ? flat[i + 1]! : [...(Array.isArray(before) ? before : [String(before)]), flat[i + 1]!];
  }
  return headers;
}

function setHeaders(response: ServerResponse, headers: readonly RecordedHeader[]): void {
  const byName = new Map<string, string[]>();
  for (const [name, value] of headers) byName.set(name, [...(byName.get(name) ?? []), value]);
  for (const [name, values] of byName) response.setHeader(name, values.length === 1 ? values[0]! : values);
}

function textOrCallback<T>(value: T | Callback | undefined): value is T {
  return typeof value !== 'function';
}

/** Defined on the response itself, once for all responses: they find their wire by the symbol. */
const OVERRIDES: PropertyDescriptorMap & ThisType<WiredResponse> = {
  writeHead: method(function (this: WiredResponse, ...args: unknown[]) {
    this[WIRE].writeHead(args);
    return this;
  }),
  // Node and middleware that wraps `end` (sessions, compression) send the head by this one, which would
  // call the `writeHead` above and be taken for the application.
  _implicitHeader: method(function (this: WiredResponse) {
    this[WIRE].call('writeHead', this.statusCode);
  }),
  flushHeaders: method(function (this: WiredResponse) {
    this[WIRE].flushHeaders();
  }),
  write: method(function (
    this: WiredResponse,
    chunk: Chunk,
    encoding?: BufferEncoding | Callback,
    callback?: Callback,
  ) {
    return textOrCallback(encoding)
      ? this[WIRE].write(chunk, encoding, callback)
      : this[WIRE].write(chunk, undefined, encoding);
  }),
  end: method(function (
    this: WiredResponse,
    chunk?: Chunk | Callback,
    encoding?: BufferEncoding | Callback,
    callback?: Callback,
  ) {
    if (typeof chunk === 'function') this[WIRE].end(undefined, undefined, chunk);
    else if (textOrCallback(encoding)) this[WIRE].end(chunk, encoding, callback);
    else this[WIRE].end(chunk, undefined, encoding);
    return this;
  }),
  emit: method(function (this: WiredResponse, event: string | symbol, ...args: unknown[]) {
    return this[WIRE].lets(event) ? this[WIRE].call('emit', event, ...args) : false;
  }),
  setHeader: method(function (this: WiredResponse, name: string, value: string) {
    if (this[WIRE].takesHeaders) this[WIRE].call('setHeader', name, value);
    return this;
  }),
  appendHeader: method(function (this: WiredResponse, name: string, value: string) {
    if (this[WIRE].takesHeaders) this[WIRE].call('appendHeader', name, value);
    return this;
  }),
  removeHeader: method(function (this: WiredResponse, name: string) {
    if (this[WIRE].takesHeaders) this[WIRE].call('removeHeader', name);
  }),
  headersSent: state('headersSent'),
  writableEnded: state('writableEnded'),
  closed: state('closed'),
  destroyed: {
    configurable: true,
    enumerable: true,
    get(this: WiredResponse) {
      return this[WIRE].seen('destroyed');
    },
    set(this: WiredResponse, value: boolean) {
      this[WIRE].ownDestroyed = value;
    },
  },
};

function method(value: (this: WiredResponse, ...args: never[]) => unknown): PropertyDescriptor {
  return { configurable: true, enumerable: false, writable: true, value };
}

function state(property: 'headersSent' | 'writableEnded' | 'closed'): PropertyDescriptor {
  return {
    configurable: true,
    enumerable: false,
    get(this: WiredResponse) {
      return this[WIRE].seen(property);
    },
  };
}
