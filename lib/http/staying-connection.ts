import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

type Listener = (...args: unknown[]) => void;

const CONNECTION = Symbol('idempotency connection');
type WatchedRequest = IncomingMessage & { [CONNECTION]?: StayingConnection };

/**
 * The connection of a request, so shown that it can be made to stay.
 *
 * Nest watches the request's socket and, when it closes, unsubscribes the handler's Observable and
 * destroys its streams. A handler under a claim has to go on to its end: while the connection is held,
 * whoever listens for its close is not told. Everything else of the socket is the real one's.
 *
 * Whoever listens has to meet this one first. For an event stream Nest listens before any
 * interceptor is called, so a guard on the route asks for the connection.
 */
export function connectionOf(request: WatchedRequest): StayingConnection {
  return (request[CONNECTION] ??= new StayingConnection(request));
}

export class StayingConnection implements ProxyHandler<Socket> {
  /** Whoever listens for the close, through this connection. */
  private readonly listeners = new Set<Listener>();
  private readonly socket: Socket | undefined;
  private readonly facade: Socket | undefined;
  private isHeld = false;

  constructor(request: IncomingMessage) {
    const socket = request.socket as Socket | undefined;
    // A request that was injected by a test tool may have no real one.
    if (!socket || typeof socket.once !== 'function') return;
    this.socket = socket;
    this.facade = request.socket = new Proxy(socket, this);
  }

  get(socket: Socket, property: string | symbol): unknown {
    if (property === 'destroyed' && this.isHeld) return false;
    switch (property) {
      case 'on':
      case 'addListener':
        return (event: string, listener: Listener) => this.listen(event, listener, 'on');
      case 'once':
        return (event: string, listener: Listener) => this.listen(event, listener, 'once');
      case 'off':
      case 'removeListener':
        return (event: string, listener: Listener) => this.forget(event, listener);
    }
    const value: unknown = Reflect.get(socket, property, socket);
    return typeof value === 'function' ? (value as Listener).bind(socket) : value;
  }

  set(socket: Socket, property: string | symbol, value: unknown): boolean {
    return Reflect.set(socket, property, value, socket);
  }

  /** Whether the client has left. */
  get isGone(): boolean {
    return this.socket?.destroyed ?? false;
  }

  /** From now on, nobody is told when the connection closes. */
  hold(): void {
    this.isHeld = true;
    for (const listener of this.listeners) this.socket?.removeListener('close', listener);
  }

  /** Whoever listens is told now, if the connection has closed, or when it closes. */
  release(): void {
    if (!this.isHeld) return;
    this.isHeld = false;
    if (this.isGone) return this.tell();
    // No listener of ours stays on the socket: it serves many requests, and would gather one of each.
    for (const listener of this.listeners) this.socket?.once('close', listener);
    this.listeners.clear();
  }

  /** Tells whoever listens, whether the connection has closed or not: what they send is to be torn down. */
  tell(): void {
    const listeners = [...this.listeners];
    this.listeners.clear();
    for (const listener of listeners) process.nextTick(listener);
  }

  private listen(event: string, listener: Listener, how: 'on' | 'once'): Socket {
    const heldBack = event === 'close' && this.isHeld;
    if (event === 'close') this.listeners.add(listener);
    if (!heldBack) this.socket![how](event, listener);
    return this.facade!;
  }

  private forget(event: string, listener: Listener): Socket {
    if (event === 'close') this.listeners.delete(listener);
    this.socket!.removeListener(event, listener);
    return this.facade!;
  }
}
