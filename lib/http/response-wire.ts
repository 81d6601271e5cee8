import { EventEmitter } from 'node:events';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { RecordedHeader } from '../core/record.js';
import { BODY_HEADERS } from './kept-headers.js';
import { checkStatus, readHead, setHeaders, type WrittenHead } from './response-head.js';
import {
  METHODS,
  overrideResponse,
  WIRE,
  type AppSide,
  type Callback,
  type Chunk,
  type Method,
  type MethodName,
  type WiredResponse,
} from './response-overrides.js';
import { connectionOf, type StayingConnection } from './staying-connection.js';

/** A response as the application ended it, while it is held back. */
export interface HeldResponse {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  /** Undefined where the body outgrew the limit: its head has gone out and its end is held. */
  readonly body: Buffer | undefined;
}

/** Takes the pieces of a response that is written in pieces. */
export interface StreamSink {
  /** False: the application should wait for `drain`. */
  write(bytes: Buffer): boolean;
  end(): void;
}

/** Who holds the response. */
export interface WireHolder {
  /** The application has ended its response. */
  ended(held: HeldResponse): void;
  /** The application has torn its response down: what it was sending has failed. */
  failed(error: Error | undefined): void;
  /** The client has closed the connection. */
  left(): void;
  /** The application writes in pieces. Undefined: they are held and put together. */
  streams(head: { readonly status: number; readonly headers: OutgoingHttpHeaders }): StreamSink | undefined;
}

/**
 * `open`: nothing is held. `holding`: what the application writes is kept here. `streaming`: it goes to
 * the sink, piece by piece. `answered`: the answer is out, and what it still writes is dropped.
 */
type State = 'open' | 'holding' | 'streaming' | 'answered';

/** The methods by which bytes leave. */
const SENDING: ReadonlySet<MethodName> = new Set(['writeHead', 'write', 'end', 'flushHeaders']);

/**
 * A body that is complete after this time, and no larger than this, is recorded as one answer (a file
 * from memory is written in two pieces as well); any other is a stream.
 */
const STREAM_AFTER_MS = 10;
const STREAM_ABOVE_BYTES = 64 * 1024;

/**
 * Sits on the raw response, where every way to answer ends: values, streams, redirects, views,
 * filters, and handlers that write by themselves; on Express and Fastify alike.
 *
 * While it holds, nothing leaves the process until the record is written, and the application does
 * not see that the client has left: no stream of its own is torn down, no Observable unsubscribed.
 */
export class ResponseWire implements AppSide {
  ownDestroyed = false;
  private state: State = 'open';
  private chunks: Buffer[] = [];
  private heldBytes = 0;
  private limit = 0;
  private head: WrittenHead | undefined;
  private outgrown = false;
  private appEnded = false;
  private appFailed = false;
  private endCallbacks: Callback[] = [];
  /** How many calls of ours are under way: middleware that was there before us sees the response as it is then. */
  private sending = 0;
  private clientLeft = false;
  private holder: WireHolder | undefined;
  private sink: StreamSink | undefined;
  private streamTimer: NodeJS.Timeout | undefined;
  private onRoom: (() => void) | undefined;
  private readonly drains = new EventEmitter();
  private connection: StayingConnection | undefined;
  private readonly original = {} as Record<MethodName, Method>;

  constructor(
    private readonly request: IncomingMessage,
    private readonly response: ServerResponse,
  ) {}

  /** Holds back what the application writes, until it is let go, replaced, streamed, or outgrows `limit` bytes. */
  hold(limit: number, holder: WireHolder): void {
    this.install();
    this.state = 'holding';
    this.limit = limit;
    this.holder = holder;
    this.connection = connectionOf(this.request);
    this.connection.hold();
    this.clientLeft = this.real('destroyed') === true || this.connection.isGone;
    if (this.clientLeft) holder.left();
  }

  /** Gives the response back to the application, with what it has written so far: nothing is protected here. */
  unhold(): void {
    if (this.state !== 'holding') return;
    this.state = 'open';
    clearTimeout(this.streamTimer);
    this.connection?.release();
    this.sendWrittenHead();
    for (const chunk of this.chunks) this.call('write', chunk);
    this.chunks = [];
    if (this.appEnded) this.sendEnd();
    if (this.clientLeft) process.nextTick(() => this.call('emit', 'close'));
  }

  get isClientGone(): boolean {
    return this.clientLeft || this.real('destroyed') === true;
  }

  // --- the answer -----------------------------------------------------------------------------

  /** Lets go what was held. */
  letGo(): void {
    if (this.appFailed) {
      this.response.socket?.destroy();
    } else if (this.outgrown) {
      this.sendEnd();
    } else {
      this.sendWrittenHead();
      this.sendEnd(Buffer.concat(this.chunks));
    }
    this.finish();
  }

  /**
   * Sends this answer instead of what was held or will be written. Where the head of a body that
   * outgrew the limit is out already, the connection is cut: better no end than a false one.
   */
  replace(status: number, headers: readonly RecordedHeader[], body: Uint8Array): void {
    this.install();
    if (this.outgrown || this.real('headersSent') === true) {
      this.response.socket?.destroy();
    } else {
      this.appFailed = false; // the application's end is none, this one is
      this.setOwnHead(headers);
      const hasBody = status !== 204 && status !== 304;
      if (hasBody) this.response.setHeader('content-length', body.byteLength);
      this.call('writeHead', status);
      this.sendEnd(hasBody ? body : undefined);
    }
    this.finish();
  }

  /** What the application writes from now on is dropped; the answer is written piece by piece by `beginStream` and so on. */
  takeOver(): void {
    this.install();
    this.state = 'answered';
  }

  /** Sends the head of a streamed answer: the application's own, or the recorded one. */
  beginStream(status: number | undefined, headers: readonly RecordedHeader[]): void {
    if (status === undefined) {
      setHeaders(this.response, headers);
      if (this.head) this.sendWrittenHead();
      else this.call('writeHead', this.response.statusCode);
      return;
    }
    this.setOwnHead(headers);
    this.call('writeHead', status);
  }

  /** Sends a piece, and resolves once there is room for the next one or nobody is there to read it. */
  async sendPiece(bytes: Uint8Array): Promise<void> {
    if (this.isClientGone || this.call('write', bytes) === true) return;
    await new Promise<void>((resolve) => (this.onRoom = resolve));
    this.onRoom = undefined;
  }

  endStream(): void {
    this.sendEnd();
  }

  /** Ends the connection without an end of the answer, after what was sent of it. */
  cut(): void {
    const { socket } = this.response;
    // Node gathers the pieces of one turn before it gives them to the socket.
    setImmediate(() => socket?.destroySoon());
  }

  /** Lets the application go on writing after its sink asked it to wait. */
  drain(): void {
    this.drains.emit('drain');
  }

  /** Shows the application that the client has gone, whether it has or not: what it sends is torn down. */
  tearDown(): void {
    this.appEnded = true;
    this.connection?.tell();
    this.call('emit', 'close');
  }

  /** The end of the wire's work; what the application still writes is dropped. */
  finish(): void {
    this.state = 'answered';
    this.chunks = [];
    clearTimeout(this.streamTimer);
    this.connection?.release();
    // The client left while the response was held; now whoever waits for it may know.
    if (this.clientLeft) process.nextTick(() => this.call('emit', 'close'));
  }

  // --- what the application calls -------------------------------------------------------------

  writeHead(args: readonly unknown[]): void {
    if (this.passes) this.call('writeHead', ...args);
    else if (this.state === 'holding') this.head ??= readHead(args);
  }

  flushHeaders(): void {
    if (this.passes) this.call('flushHeaders');
  }

  write(chunk: Chunk, encoding: BufferEncoding | undefined, callback: Callback | undefined): boolean {
    if (this.passes) return this.call('write', chunk, encoding, callback) as boolean;
    if (callback) process.nextTick(callback);
    return this.appEnded || this.state === 'answered' || this.take(chunk, encoding);
  }

  end(chunk: Chunk | undefined, encoding: BufferEncoding | undefined, callback: Callback | undefined): void {
    if (this.passes) {
      this.call('end', chunk, encoding, callback);
      return;
    }
    if (this.appEnded || this.state === 'answered') {
      this.appEnded = true;
      if (callback) process.nextTick(callback);
      return;
    }
    if (!this.outgrown && !this.sink) checkStatus(this.currentHead().status);
    if (callback) this.endCallbacks.push(callback);
    if (chunk !== undefined && chunk !== null) this.take(chunk, encoding, true);
    this.appEnded = true;
    clearTimeout(this.streamTimer);
    if (this.sink) this.sink.end();
    else this.holder?.ended({ ...this.currentHead(), body: this.outgrown ? undefined : Buffer.concat(this.chunks) });
  }

  destroy(error: Error | undefined): void {
    if (this.state === 'open') {
      this.call('destroy', error);
    } else if (this.state !== 'answered' && !this.appEnded) {
      this.appEnded = this.appFailed = true;
      clearTimeout(this.streamTimer);
      this.holder?.failed(error);
    }
  }

  lets(event: string | symbol): boolean {
    if (event !== 'close') return true;
    this.onRoom?.();
    if (this.state === 'open' || this.state === 'answered') return true;
    this.clientLeft = true;
    // A source that was paused for the client's sake has nobody to wait for any more.
    if (this.outgrown) process.nextTick(() => this.drain());
    this.holder?.left();
    return false;
  }

  seen(property: 'headersSent' | 'writableEnded' | 'destroyed' | 'closed'): unknown {
    if (this.state === 'open') return this.real(property);
    if (property === 'destroyed' || property === 'closed') {
      // Node asks too, and drops what is written to a response that says yes.
      return this.state === 'answered' && this.real(property) === true;
    }
    if (this.passes) return this.real(property);
    if (property === 'writableEnded') return this.appEnded;
    return this.appEnded || this.outgrown || this.state === 'streaming' || this.hasHeldSomething;
  }

  get waiting(): EventEmitter | undefined {
    return this.sending > 0 ? undefined : this.drains;
  }

  get takesHeaders(): boolean {
    return this.state !== 'answered' || this.real('headersSent') !== true;
  }

  call(name: MethodName, ...args: unknown[]): unknown {
    if (!SENDING.has(name)) return this.original[name].apply(this.response, args);
    this.sending += 1;
    try {
      return this.original[name].apply(this.response, args);
    } finally {
      this.sending -= 1;
    }
  }

  // --------------------------------------------------------------------------------------------

  /** Whether a call goes straight on: nothing is held, or it comes from middleware through which we send. */
  private get passes(): boolean {
    return this.state === 'open' || this.sending > 0;
  }

  private get hasHeldSomething(): boolean {
    return this.state === 'holding' && (this.head !== undefined || this.heldBytes > 0);
  }

  private currentHead(): { status: number; headers: OutgoingHttpHeaders } {
    return {
      status: this.head?.status ?? this.response.statusCode,
      headers: { ...this.response.getHeaders(), ...this.head?.headers },
    };
  }

  private take(chunk: Chunk, encoding: BufferEncoding | undefined, isLast = false): boolean {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk);
    if (this.sink) return this.sink.write(bytes);
    if (this.outgrown) return this.clientLeft || (this.call('write', bytes) as boolean);
    this.chunks.push(bytes);
    this.heldBytes += bytes.byteLength;
    if (!isLast && this.becomesStream()) {
      const room = this.startSink();
      if (room !== undefined) return room;
    }
    if (this.heldBytes <= this.limit) return true;
    // Too large to keep: what is held goes out, the rest follows as it comes, and only the end waits
    // for the record. Memory stays bounded whatever the size.
    this.outgrown = true;
    this.sendWrittenHead();
    const held = Buffer.concat(this.chunks);
    this.chunks = [];
    return this.clientLeft || (this.call('write', held) as boolean);
  }

  private becomesStream(): boolean {
    const type = String(this.currentHead().headers['content-type'] ?? '');
    if (type.startsWith('text/event-stream') || this.heldBytes > STREAM_ABOVE_BYTES) return true;
    this.streamTimer ??= setTimeout(() => this.startSink(), STREAM_AFTER_MS);
    return false;
  }

  /** Undefined where nobody takes the pieces: they are held like any other body. */
  private startSink(): boolean | undefined {
    clearTimeout(this.streamTimer);
    if (this.sink || this.outgrown || this.state !== 'holding') return undefined;
    this.sink = this.holder?.streams(this.currentHead());
    if (!this.sink) return undefined;
    this.state = 'streaming';
    const held = this.chunks;
    this.chunks = [];
    let room = true;
    for (const chunk of held) room = this.sink.write(chunk);
    return room;
  }

  private hasRoom(): void {
    this.onRoom?.();
    if (this.outgrown || this.state === 'open') this.drain();
  }

  private setOwnHead(headers: readonly RecordedHeader[]): void {
    // Only where it is there: Node takes the removal of Transfer-Encoding for a wish to do without, and an
    // answer without it has no end but that of the connection.
    for (const name of BODY_HEADERS) if (this.response.hasHeader(name)) this.response.removeHeader(name);
    this.response.statusMessage = ''; // the reason of another answer
    setHeaders(this.response, headers);
  }

  private sendWrittenHead(): void {
    if (!this.head) return;
    const { status, reason, headers } = this.head;
    if (reason === undefined) this.call('writeHead', status, headers);
    else this.call('writeHead', status, reason, headers);
  }

  private sendEnd(body?: Uint8Array): void {
    // As listeners rather than as arguments: middleware that wraps `end` takes a callback for a chunk.
    for (const callback of this.endCallbacks) this.response.once('finish', () => callback());
    this.endCallbacks = [];
    if (body && body.byteLength > 0) this.call('end', body);
    else this.call('end');
  }

  private install(): void {
    if ((this.response as Partial<WiredResponse>)[WIRE]) return;
    for (const name of METHODS) this.original[name] = this.response[name] as Method;
    overrideResponse(this.response, this);
    // Middleware that codes the body leads this to where its own buffer drains, out of reach of an `emit` here;
    // hence also the emitter of our own for the application, which waits for the record rather than for the client.
    this.call('on', 'drain', () => this.hasRoom());
  }

  private real(property: 'headersSent' | 'writableEnded' | 'destroyed' | 'closed'): unknown {
    if (!(this.response as Partial<WiredResponse>)[WIRE]) return this.response[property as 'destroyed'];
    if (property === 'destroyed') return this.ownDestroyed;
    return Reflect.get(Object.getPrototypeOf(this.response) as object, property, this.response);
  }
}
