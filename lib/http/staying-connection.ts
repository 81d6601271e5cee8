import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** A request whose connection seems to stay open until `release`. */
export interface StayingConnection {
  /** Whether the client has left by now. */
  readonly isGone: boolean;
  /** Shows a connection that closes now: whoever waits for it is told. */
  close(): void;
  release(): void;
}

type Listener = (...args: unknown[]) => void;

/**
 * Nest watches the request's socket and, when it closes, unsubscribes the handler's Observable and
 * destroys its streams. A handler under a claim has to go on to its end, so it is shown a socket that
 * does not close: everything else is the real one's.
 */
export function connectionThatStays(request: IncomingMessage): StayingConnection {
  const socket = request.socket as Socket | undefined;
  if (!socket || typeof socket.once !== 'function')
    return { isGone: false, close: () => undefined, release: () => undefined };
  const waiting = new Set<Listener>();
  let released = false;

  const listen = (event: string | symbol, listener: Listener, how: 'on' | 'once'): Socket => {
    if (event === 'close' && !released) waiting.add(listener);
    else socket[how](event as string, listener);
    return facade;
  };
  const shown: Record<string | symbol, unknown> = {
    on: (event: string, listener: Listener) => listen(event, listener, 'on'),
    addListener: (event: string, listener: Listener) => listen(event, listener, 'on'),
    once: (event: string, listener: Listener) => listen(event, listener, 'once'),
    removeListener: (event: string, listener: Listener) => forget(event, listener),
    off: (event: string, listener: Listener) => forget(event, listener),
  };
  const forget = (event: string, listener: Listener): Socket => {
    waiting.delete(listener);
    socket.removeListener(event, listener);
    return facade;
  };
  const facade: Socket = new Proxy(socket, {
    get(target, property) {
      if (property === 'destroyed' && !released) return false;
      if (property in shown) return shown[property];
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? (value as Listener).bind(target) : value;
    },
    set: (target, property, value) => Reflect.set(target, property, value, target),
  });
  request.socket = facade;

  return {
    get isGone() {
      return socket.destroyed;
    },
    close() {
      for (const listener of waiting) process.nextTick(listener);
      waiting.clear();
    },
    release() {
      released = true;
      request.socket = socket;
      for (const listener of waiting) {
        if (socket.destroyed) process.nextTick(listener);
        else socket.once('close', listener);
      }
      waiting.clear();
    },
  };
}
