import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RecordedHeader } from '../core/record.js';
import { ClientSide } from './client-side.js';
import { HeldBody, isUtf8, type CurrentHead } from './held-body.js';
import type { WireHolder } from './wire-holder.js';
import { checkStatus, readHead, setHeaders, type WrittenHead } from './response-head.js';
import type { AppSide, Callback, Chunk, MethodName, SeenState } from './response-overrides.js';
import { connectionOf, type StayingConnection } from './staying-connection.js';

/**
 * `open`: nothing is held. `holding`: what the application writes is kept, or recorded as a stream.
 * `answered`: the answer is out or on its way, and what it still writes is dropped.
 */
type State = 'open' | 'holding' | 'answered';

/**
 * Sits on the raw response, where every way to answer ends: values, streams, redirects, views,
 * filters, and handlers that write by themselves; on Express and Fastify alike.
 *
 * While it holds, nothing leaves the process until the record is written, and the application does
 * not see that the client has left: no stream of its own is torn down, no Observable unsubscribed.
 */
export class ResponseWire implements AppSide {
  private state: State = 'open';
  private body: HeldBody | undefined;
  private head: WrittenHead | undefined;
  private appEnded = false;
  private appFailed = false;
  private endCallbacks: Callback[] | undefined;
  private clientLeft = false;
  private holder: WireHolder | undefined;
  /** Those of the application that wait for `drain`: for the record rather than for the client. */
  private drains: EventEmitter | undefined;
  private connection: StayingConnection | undefined;
  private readonly client: ClientSide;

  constructor(
    private readonly request: IncomingMessage,
    private readonly response: ServerResponse,
  ) {
    this.client = new ClientSide(response);
  }

  /** Holds back what the application writes, until it is let go, replaced, streamed, or outgrows `limit` bytes. */
  hold(limit: number, holder: WireHolder): void {
    this.install();
    this.state = 'holding';
    this.holder = holder;
    this.body = new HeldBody(limit, {
      head: () => this.currentHead(),
      streams: (head, bytes) => holder.streams(head, bytes),
      sendOut: (bytes) => this.sendOut(bytes),
    });
    this.connection = connectionOf(this.request);
    this.connection.hold();
    this.clientLeft = this.client.isDestroyed || this.connection.isGone;
    this.client.hideDestroyed();
    if (this.clientLeft) holder.left();
  }

  /** Gives the response back to the application, with what it has written so far: nothing is protected here. */
  unhold(): void {
    if (this.state !== 'holding') return;
    this.state = 'open';
    this.client.showDestroyed();
    this.body?.end();
    this.connection?.release();
    this.client.sendWrittenHead(this.head);
    const written = this.body?.takeAll();
    if (written?.byteLength) this.client.call('write', written);
    if (this.appEnded) this.sendEnd();
    if (this.clientLeft) process.nextTick(() => this.client.call('emit', 'close'));
  }

  get isClientGone(): boolean {
    return this.clientLeft || this.client.isDestroyed;
  }

  /** Lets go what was held. */
  letGo(): void {
    if (this.appFailed) {
      this.response.socket?.destroy();
    } else {
      if (!this.client.real('headersSent')) this.client.sendWrittenHead(this.head);
      this.sendEnd(this.body?.takeAll());
    }
    this.finish();
  }

  /**
   * Sends this answer instead of what was held or will be written. Where the head of a body that
   * outgrew the limit is out already, the connection is cut: better no end than a false one.
   */
  replace(status: number, headers: readonly RecordedHeader[], body: Uint8Array): void {
    this.install();
    if (this.client.real('headersSent')) this.response.socket?.destroy();
    else this.client.sendAnswer(status, headers, body, this.takeEndCallbacks());
    this.finish();
  }

  /** What the application writes from now on is dropped; the answer is written piece by piece by `beginStream` and so on. */
  takeOver(): void {
    this.install();
    this.state = 'answered';
    this.client.showDestroyed();
  }

  /** Sends the head of a streamed answer: the application's own, or the recorded one. */
  beginStream(status: number | undefined, headers: readonly RecordedHeader[]): void {
    if (status === undefined) {
      // An announced length would end the answer with its last byte; its end has to wait for the record.
      if (this.response.hasHeader('content-length')) this.response.removeHeader('content-length');
      if (this.head) delete this.head.headers['content-length'];
      setHeaders(this.response, headers);
      if (this.head) this.client.sendWrittenHead(this.head);
      else this.client.call('writeHead', this.response.statusCode);
      return;
    }
    this.client.setOwnHead(headers);
    this.client.call('writeHead', status);
  }

  /** Sends a piece, and resolves once there is room for the next one or nobody is there to read it. */
  async sendPiece(bytes: Uint8Array): Promise<void> {
    if (!this.isClientGone) await this.client.sendPiece(bytes);
  }

  endStream(): void {
    this.sendEnd();
  }

  /** Ends the connection without an end of the answer, after what was sent of it. */
  cut(): void {
    this.client.cut();
  }

  /** Lets the application go on writing after its sink asked it to wait. */
  drain(): void {
    this.drains?.emit('drain');
  }

  /** Shows the application that the client has gone, whether it has or not: what it sends is torn down. */
  tearDown(): void {
    this.appEnded = true;
    this.connection?.tell();
    this.client.call('emit', 'close');
    this.drain(); // for a handler that waits to write more, and would wait for ever
  }

  /** What is written from here on is a stream, and so is what was held. */
  startStream(): void {
    if (this.hasHeldSomething) this.body?.startSink();
  }

  /** The end of the wire's work; what the application still writes is dropped. */
  finish(): void {
    this.state = 'answered';
    this.client.showDestroyed();
    this.body?.end();
    this.body?.takeAll();
    this.connection?.release();
    // The client left while the response was held; now whoever waits for it may know.
    if (this.clientLeft) process.nextTick(() => this.client.call('emit', 'close'));
  }

  writeHead(args: readonly unknown[]): void {
    if (this.passes) this.client.call('writeHead', ...args);
    else if (this.state === 'holding') this.head ??= readHead(args);
  }

  flushHeaders(): void {
    if (this.passes) this.client.call('flushHeaders');
  }

  write(chunk: Chunk, encoding: BufferEncoding | undefined, callback: Callback | undefined): boolean {
    if (this.passes) return this.client.call('write', chunk, encoding, callback) as boolean;
    if (callback) process.nextTick(callback);
    return this.appEnded || this.state === 'answered' || this.take(chunk, encoding);
  }

  end(chunk: Chunk | undefined, encoding: BufferEncoding | undefined, callback: Callback | undefined): void {
    if (this.passes) {
      this.client.call('end', chunk, encoding, callback);
      return;
    }
    if (this.appEnded || this.state === 'answered') {
      this.appEnded = true;
      if (callback) process.nextTick(callback);
      return;
    }
    if (!this.body?.outgrown && !this.body?.sink) checkStatus(this.currentHead().status);
    if (callback) (this.endCallbacks ??= []).push(callback);
    if (chunk !== undefined && chunk !== null) this.take(chunk, encoding, true);
    this.appEnded = true;
    this.body?.end();
    if (this.body?.sink) this.body.sink.end();
    else this.holder?.ended({ ...this.currentHead(), body: this.body?.outgrown ? undefined : this.body?.peekAll() });
  }

  destroy(error: Error | undefined): void {
    if (this.state === 'open') {
      this.client.call('destroy', error);
    } else if (this.state !== 'answered' && !this.appEnded) {
      this.appEnded = this.appFailed = true;
      this.body?.end();
      this.holder?.failed(error);
    }
  }

  lets(event: string | symbol): boolean {
    if (event === 'drain') this.hasRoom();
    if (event !== 'close') return true;
    this.client.hasRoom();
    if (this.state === 'open' || this.state === 'answered') return true;
    this.clientLeft = true;
    this.client.hideDestroyed();
    // A source that was paused for the client's sake has nobody to wait for any more.
    if (this.body?.outgrown) process.nextTick(() => this.drain());
    this.holder?.left();
    return false;
  }

  seen(property: SeenState): unknown {
    if (this.state === 'open') return this.client.real(property);
    if (property === 'closed') return this.state === 'answered' && this.client.real(property);
    if (this.passes) return this.client.real(property);
    if (property === 'writableEnded') return this.appEnded;
    return this.appEnded || this.hasHeldSomething;
  }

  get waiting(): EventEmitter | undefined {
    return this.client.isSending ? undefined : (this.drains ??= new EventEmitter());
  }

  get takesHeaders(): boolean {
    return this.state !== 'answered' || !this.client.real('headersSent');
  }

  call(name: MethodName, ...args: unknown[]): unknown {
    return this.client.call(name, ...args);
  }

  /** Whether a call goes straight on: nothing is held, or it comes from middleware through which we send. */
  private get passes(): boolean {
    return this.state === 'open' || this.client.isSending;
  }

  private get hasHeldSomething(): boolean {
    return this.state === 'holding' && (this.head !== undefined || this.body?.isEmpty === false);
  }

  private currentHead(): CurrentHead {
    return {
      status: this.head?.status ?? this.response.statusCode,
      headers: { ...this.response.getHeaders(), ...this.head?.headers },
    };
  }

  private take(chunk: Chunk, encoding: BufferEncoding | undefined, isLast = false): boolean {
    const sink = this.body?.sink;
    if (typeof chunk === 'string' && sink?.writeText && isUtf8(encoding)) return sink.writeText(chunk);
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk);
    return this.body?.write(bytes, isLast) ?? true;
  }

  /** Sends a part of a body that is too large to hold, its head first. */
  private sendOut(bytes: Buffer): boolean {
    if (!this.client.real('headersSent')) this.client.sendWrittenHead(this.head);
    return this.clientLeft || (this.client.call('write', bytes) as boolean);
  }

  private hasRoom(): void {
    this.client.hasRoom();
    if (this.body?.outgrown || this.state === 'open') this.drain();
  }

  private takeEndCallbacks(): readonly Callback[] {
    const callbacks = this.endCallbacks ?? [];
    this.endCallbacks = undefined;
    return callbacks;
  }

  private sendEnd(body?: Uint8Array): void {
    this.client.sendEnd(this.takeEndCallbacks(), body);
  }

  private install(): void {
    if (this.client.isInstalled) return;
    this.client.install(this);
    // Middleware that codes the body has listeners for `drain` go to where its own buffer drains, out of reach of `lets`.
    if (this.client.hasOwn('on')) this.client.call('on', 'drain', () => this.hasRoom());
  }
}
