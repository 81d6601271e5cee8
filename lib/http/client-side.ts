import type { ServerResponse } from 'node:http';
import type { RecordedHeader } from '../core/record.js';
import { BODY_HEADERS } from './kept-headers.js';
import { setHeaders, type WrittenHead } from './response-head.js';
import { METHODS, type Callback, type Method, type MethodName } from './response-overrides.js';

/** The methods by which bytes leave. */
const SENDING: ReadonlySet<MethodName> = new Set(['writeHead', 'write', 'end', 'flushHeaders']);

/** The side of a response that faces the client: its own methods, as they were before the wire took their place. */
export class ClientSide {
  /** `destroyed` is a plain field of the response that Node sets; its value moves here. */
  ownDestroyed: boolean;
  private readonly original = {} as Record<MethodName, Method>;
  /** How many calls of ours are under way: middleware that was there before us sees the response as it is then. */
  private sending = 0;
  private onRoom: (() => void) | undefined;

  constructor(private readonly response: ServerResponse) {
    this.ownDestroyed = response.destroyed;
    for (const name of METHODS) this.original[name] = response[name] as Method;
  }

  get isSending(): boolean {
    return this.sending > 0;
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

  real(property: 'headersSent' | 'writableEnded' | 'destroyed' | 'closed'): boolean {
    if (property === 'destroyed') return this.ownDestroyed;
    return Reflect.get(Object.getPrototypeOf(this.response) as object, property, this.response) === true;
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
    for (const name of BODY_HEADERS) if (this.response.hasHeader(name)) this.response.removeHeader(name);
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
    if (body && body.byteLength > 0) this.call('end', body);
    else this.call('end');
  }

  /** Ends the connection without an end of the answer, after what was sent of it. */
  cut(): void {
    const { socket } = this.response;
    // Node gathers the pieces of one turn before it gives them to the socket.
    setImmediate(() => socket?.destroySoon());
  }
}
