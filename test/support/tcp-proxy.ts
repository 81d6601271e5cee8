import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A TCP proxy that breaks connections in the ways in which networks do. */
export interface TcpProxy {
  readonly port: number;
  /** Resets every open connection on both sides. */
  cutAll(): void;
  /**
   * Accepts and swallows what comes from either side, as a network that drops packets. Connections
   * that lost bytes are reset when it ends, because the rest of their stream would make no sense.
   */
  blackhole(on: boolean): void;
  /**
   * The request reaches the server; its reply is withheld and the connection reset: the client
   * cannot know whether it was done. `true`: every reply; a number: that many, then normal again.
   */
  dropReplies(which: boolean | number): void;
  /** Holds back each piece for so long, in both directions, in order. */
  delay(ms: number): void;
  /** New connections go to this port. */
  retarget(port: number): void;
  /** New connections are refused; the open ones live on. */
  refuse(on: boolean): Promise<void>;
  /** Sends on in pieces of so many bytes, each in a packet of its own; 0: as it came. */
  slice(bytes: number): void;
  close(): Promise<void>;
}

export async function startProxy(firstPort: number): Promise<TcpProxy> {
  let targetPort = firstPort;
  const faults: Faults = { blackhole: false, repliesToDrop: 0, delay: 0, slice: 0 };
  const links = new Set<Link>();
  const server = createServer((client) => {
    const link = new Link(client, targetPort, faults);
    links.add(link);
    client.once('close', () => links.delete(link));
  });
  const port = await listen(server, 0);
  const cutAll = (): void => links.forEach((link) => link.cut());
  return {
    port,
    cutAll,
    blackhole(on) {
      faults.blackhole = on;
      if (!on) links.forEach((link) => link.lostBytes && link.cut());
    },
    dropReplies: (which) => void (faults.repliesToDrop = which === true ? Infinity : Number(which)),
    delay: (ms) => void (faults.delay = ms),
    slice: (bytes) => void (faults.slice = bytes),
    retarget: (newPort) => void (targetPort = newPort),
    async refuse(on) {
      if (on === !server.listening) return;
      // The callback of close() waits for the open connections; that it no longer listens is at once.
      if (on) server.close();
      else await listen(server, port);
    },
    async close() {
      const closed = server.listening ? new Promise((done) => server.close(done)) : undefined;
      cutAll();
      await closed;
    },
  };
}

interface Faults {
  blackhole: boolean;
  repliesToDrop: number;
  delay: number;
  slice: number;
}

class Link {
  lostBytes = false;
  private readonly target: Socket;

  constructor(
    private readonly client: Socket,
    targetPort: number,
    private readonly faults: Faults,
  ) {
    this.target = connect(targetPort, '127.0.0.1');
    this.join(client, this.target, () => false);
    this.join(this.target, client, () => this.replyIsToBeDropped());
  }

  cut(): void {
    reset(this.client);
    reset(this.target);
  }

  private join(from: Socket, to: Socket, cutInstead: () => boolean): void {
    let sending: Promise<unknown> = Promise.resolve();
    const inOrder = (step: () => Promise<unknown> | void): void => void (sending = sending.then(step));
    from.setNoDelay(true);
    from.on('data', (data) => {
      if (this.faults.blackhole) this.lostBytes = true;
      else if (cutInstead()) this.cut();
      else {
        const due = Date.now() + this.faults.delay;
        inOrder(() => this.pass(data, due, from, to));
      }
    });
    from.on('end', () => inOrder(() => void (this.faults.blackhole || to.end())));
    from.on('error', () => this.cut());
    from.on('close', () => inOrder(() => void (from.errored && to.destroy())));
  }

  private async pass(data: Buffer, due: number, from: Socket, to: Socket): Promise<void> {
    const size = this.faults.slice || data.length;
    const wait = due - Date.now();
    if (wait > 0) await sleep(wait);
    for (let start = 0; start < data.length && to.writable; start += size) {
      if (start > 0) await sleep(1);
      if (to.write(data.subarray(start, start + size))) continue;
      // As a wire would: a slow reader slows the writer.
      from.pause();
      await new Promise<void>((done) => {
        to.once('drain', done);
        to.once('close', () => done());
      });
      from.resume();
    }
  }

  private replyIsToBeDropped(): boolean {
    if (this.faults.repliesToDrop <= 0) return false;
    this.faults.repliesToDrop--;
    return true;
  }
}

/**
 * Node loses a socket that is reset in the moment of its goodbye (between `end` and `finish`): libuv
 * refuses, the handle is never closed, and the process spins for ever where it should exit.
 */
function reset(socket: Socket): void {
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((done, failed) => server.once('error', failed).listen(port, '127.0.0.1', done));
  return (server.address() as AddressInfo).port;
}
