import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

export interface ModelCall {
  readonly key: string;
  readonly pid: number;
}

/** Counts the calls of the model, outside of everything that is under test, and may keep one waiting. */
export class Ledger {
  readonly calls: ModelCall[] = [];
  url = '';
  private readonly held = new Map<string, Promise<void>>();
  private readonly server = createServer((request, response) => {
    void text(request)
      .then(async (body) => {
        const call = JSON.parse(body) as ModelCall;
        this.calls.push(call);
        await this.held.get(call.key);
        response.end();
      })
      .catch(() => response.destroy());
  });

  static async open(): Promise<Ledger> {
    const ledger = new Ledger();
    ledger.server.requestTimeout = 0;
    await once(ledger.server.listen(0, '127.0.0.1'), 'listening');
    ledger.url = `http://127.0.0.1:${(ledger.server.address() as AddressInfo).port}`;
    return ledger;
  }

  callsOf(key: string): number {
    return this.calls.filter((call) => call.key === key).length;
  }

  /** The model does not answer calls with this key before the function that is returned is called. */
  hold(key: string): () => void {
    let release!: () => void;
    this.held.set(key, new Promise<void>((resolve) => (release = resolve)));
    return release;
  }

  close(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}
