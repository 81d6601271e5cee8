import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

type Listener = (...args: unknown[]) => void;

const connections = new WeakMap<IncomingMessage, StayingConnection>();

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
export function connectionOf(request: IncomingMessage): StayingConnection {
  const known = connections.get(request);
  if (known) return known;
  const connection = new StayingConnection(request);
  connections.set(request, connection);
  return connection;
}

export class StayingConnection {
  /** Whoever listens for the close, through this connection. */
  private readonly listeners = new Set<Listener>();
  private readonly socket: Socket | undefined;
  private isHeld = false;

  constructor(request: IncomingMessage) {
    const socket = request.socket as Socket | undefined;
    // A request that was injected by a test tool may have no real one.
    if (!socket || typeof socket.once !== 'function') return;
    this.socket = socket;
    request.socket = this.facadeOf(socket);
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

  private facadeOf(socket: Socket): Socket {
    const listen = (event: string, listener: Listener, how: 'on' | 'once'): Socket => {
      const heldBack = event === 'close' && this.isHeld;
      if (event === 'close') this.listeners.add(listener);
      if (!heldBack) socket[how](event, listener);
      return facade;
    };
    const forget = (event: string, listener: Listener): Socket => {
      if (event === 'close') this.listeners.delete(listener);
      socket.removeListener(event, listener);
      return facade;
    };
    const shown: Record<string | symbol, unknown> = {
      on: (event: string, listener: Listener) => listen(event, listener, 'on'),
      addListener: (event: string, listener: Listener) => listen(event, listener, 'on'),
      once: (event: string, listener: Listener) => listen(event, listener, 'once'),
      removeListener: forget,
      off: forget,
    };
    const facade: Socket = new Proxy(socket, {
      get: (target, property) => {
        if (property === 'destroyed' && this.isHeld) return false;
        if (Object.hasOwn(shown, property)) return shown[property];
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? (value as Listener).bind(target) : value;
      },
      set: (target, property, value) => Reflect.set(target, property, value, target),
    });
    return facade;
  }
}
