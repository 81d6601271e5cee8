import type { ServerResponse } from 'node:http';
import type { RecordedHeader } from '../core/record.js';
import { BODY_HEADERS } from './kept-headers.js';
import { setHeaders, type WrittenHead } from './response-head.js';
import {
  overrideResponse,
  type AppSide,
  type Callback,
  type Method,
  type MethodName,
  type Original,
  type SeenState,
} from './response-overrides.js';

/** The methods by which bytes leave. */
const SENDING: ReadonlySet<MethodName> = new Set(['writeHead', 'write', 'end', 'flushHeaders']);

/** Up to this size a body is sent as a text of one character a byte: above it the copy costs more than it saves. */
const ONE_PIECE_BYTES = 16 * 1024;

/** The side of a response that faces the client: its own methods, as they were before the wire took their place. */
export class ClientSide {
  private original: Original | undefined;
  /** How many calls of ours are under way: middleware that was there before us sees the response as it is then. */
  private sending = 0;
  private onRoom: (() => void) | undefined;
  /** Whether the response is destroyed, while the application does not see it. */
  private isHidden = false;

  constructor(private readonly response: ServerResponse) {}

  /** Gives the response's methods to the application's side. */
  install(app: AppSide): void {
    this.original = overrideResponse(this.response, app);
  }

  get isInstalled(): boolean {
    return this.original !== undefined;
  }

  /** Whether middleware has replaced this method on the response. */
  hasOwn(name: MethodName): boolean {
    return this.original?.own?.[name] !== undefined;
  }

  get isSending(): boolean {
    return this.sending > 0;
  }

  /** Calls a method as it was before the wire took its place. */
  call(name: MethodName, ...args: unknown[]): unknown {
    const { prototype, own } = this.original!;
    const method = own?.[name] ?? (prototype[name] as Method);
    if (!SENDING.has(name)) return method.apply(this.response, args);
    this.sending += 1;
    try {
      return method.apply(this.response, args);
    } finally {
      this.sending -= 1;
    }
  }

  real(property: SeenState): boolean {
    if (!this.original) return this.response[property];
    return Reflect.get(this.original.prototype, property, this.response);
  }

  get isDestroyed(): boolean {
    return this.isHidden || this.response.destroyed;
  }

  /** Keeps from the application, and from Node, which drops what is written then, that the client has left. */
  hideDestroyed(): void {
    if (!this.response.destroyed) return;
    this.isHidden = true;
    this.response.destroyed = false;
  }

  showDestroyed(): void {
    if (!this.isHidden) return;
    this.isHidden = false;
    this.response.destroyed = true;
  }

  /** Sends the head that the application has written by itself; without one Node sends its own. */
  sendWrittenHead(head: WrittenHead | undefined): void {
    if (!head) return;
    const { status, reason, headers } = head;
    if (reason === undefined) this.call('writeHead', status, headers);
    else this.call('writeHead', status, reason, headers);
  }

  /** Puts the head of another answer in the place of the application's. */
  setOwnHead(headers: readonly RecordedHeader[]): void {
    // Only where it is there: Node takes the removal of Transfer-Encoding for a wish to do without, and an
    // answer without it has no end but that of the connection.
    for (const name of this.response.getHeaderNames()) if (BODY_HEADERS.has(name)) this.response.removeHeader(name);
    this.response.statusMessage = ''; // the reason of another answer
    setHeaders(this.response, headers);
  }

  /** Sends a whole answer in place of the application's. */
  sendAnswer(
    status: number,
    headers: readonly RecordedHeader[],
    body: Uint8Array,
    callbacks: readonly Callback[],
  ): void {
    this.setOwnHead(headers);
    const hasBody = status !== 204 && status !== 304;
    if (hasBody) this.response.setHeader('content-length', body.byteLength);
    this.call('writeHead', status);
    this.sendEnd(callbacks, hasBody ? body : undefined);
  }

  /** Sends a piece, and resolves once there is room for the next one or nobody is there to read it. */
  async sendPiece(bytes: Uint8Array): Promise<void> {
    if (this.call('write', bytes) === true) return;
    await new Promise<void>((resolve) => (this.onRoom = resolve));
    this.onRoom = undefined;
  }

  /** There is room again, or nobody to wait for. */
  hasRoom(): void {
    this.onRoom?.();
  }

  sendEnd(callbacks: readonly Callback[], body?: Uint8Array): void {
    // As listeners rather than as arguments: middleware that wraps `end` takes a callback for a chunk.
    for (const callback of callbacks) this.response.once('finish', () => callback());
    if (!body || body.byteLength === 0) this.call('end');
    else if (this.sendsInOnePiece(body)) this.call('end', textOf(body), 'latin1');
    else this.call('end', body);
  }

  /**
   * Node puts a text behind the head and writes both at once. Not where middleware wraps these methods: it may take no
   * notice of the encoding; nor where the client has left: Node would take the text for sent.
   */
  private sendsInOnePiece(body: Uint8Array): boolean {
    if (body.byteLength > ONE_PIECE_BYTES || this.response.socket?.destroyed) return false;
    return !this.hasOwn('end') && !this.hasOwn('write');
  }

  /** Ends the connection without an end of the answer, after what was sent of it. */
  cut(): void {
    const { socket } = this.response;
    // Node gathers the pieces of one turn before it gives them to the socket.
    setImmediate(() => socket?.destroySoon());
  }
}

/** The bytes as a text of one character each. */
const textOf = ({ buffer, byteOffset, byteLength }: Uint8Array): string =>
  Buffer.from(buffer, byteOffset, byteLength).toString('latin1');
