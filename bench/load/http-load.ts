import { Client } from 'undici';
import type { HttpRound, RoundResult } from './rounds.js';
import { Tally } from './tally.js';

const ORDER = Buffer.from(
  JSON.stringify({
    customer: 'cus_0f6c1a7e5b',
    currency: 'eur',
    items: [
      { sku: 'credits-1000', quantity: 2, cents: 1990 },
      { sku: 'seat-monthly', quantity: 5, cents: 1200 },
      { sku: 'storage-100g', quantity: 1, cents: 450 },
    ],
    note: 'Invoice to the accounting office, please, with the reference number of the framework agreement.',
  }),
);

const FEW_KEYS = 64;

/** Sends requests over some connections for a while, or a number of them. */
export async function runHttp(round: HttpRound): Promise<RoundResult> {
  const clients = Array.from({ length: round.connections }, () => new Client(round.url, { pipelining: 1 }));
  try {
    const run = new HttpLoad(round);
    await (round.perSecond === undefined ? run.asFastAsPossible(clients) : run.atRate(clients, round.perSecond));
    return run.tally.result();
  } finally {
    await Promise.all(clients.map((client) => client.destroy()));
  }
}

class HttpLoad {
  readonly tally = new Tally();
  private readonly until: number;
  private readonly amount: number;
  private sent = 0;

  constructor(private readonly round: HttpRound) {
    this.until = performance.now() + (round.seconds ?? Infinity) * 1_000;
    this.amount = round.amount ?? Infinity;
  }

  /** Each connection sends its next request when it has the answer to the one before. */
  async asFastAsPossible(clients: readonly Client[]): Promise<void> {
    await Promise.all(
      clients.map(
        (client) =>
          new Promise<void>((done) => {
            const next = (): void => {
              const now = performance.now();
              if (now < this.until && this.sent < this.amount) this.send(client, now, next);
              else done();
            };
            next();
          }),
      ),
    );
  }

  /**
   * Requests become due at a steady rate; one that finds all connections taken waits, and its wait
   * counts: a slow server cannot make its load lighter.
   */
  async atRate(clients: readonly Client[], perSecond: number): Promise<void> {
    const free = [...clients];
    const waiting: number[] = [];
    const begun = performance.now();
    let due = 0;
    let open = 0;
    await new Promise<void>((done) => {
      const timer = setInterval(() => {
        const now = performance.now();
        for (; now < this.until && begun + (due * 1_000) / perSecond <= now; due += 1) {
          waiting.push(begun + (due * 1_000) / perSecond);
        }
        start();
        if (now >= this.until && open === 0 && waiting.length === 0) {
          clearInterval(timer);
          done();
        }
      }, 1);
      const start = (): void => {
        while (free.length > 0 && waiting.length > 0) {
          const client = free.pop()!;
          open += 1;
          this.send(client, waiting.shift()!, () => {
            open -= 1;
            free.push(client);
            start();
          });
        }
      };
    });
  }

  private send(client: Client, since: number, next: () => void): void {
    const { keys, path, replayed } = this.round;
    const number = this.sent++;
    const key = `${keys.prefix}-${keys.kind === 'new' ? number : number % FEW_KEYS}`;
    const headers = ['content-type', 'application/json', 'idempotency-key', key];
    let wrong: string | undefined;
    client.dispatch(
      { method: 'POST', path, headers, body: ORDER },
      {
        onRequestStart: () => undefined,
        onResponseStart: (_controller, status, answer) => {
          if (status !== 201) wrong = `status ${status}`;
          else if ((answer['idempotent-replayed'] === 'true') !== replayed) {
            wrong = replayed ? 'not a replay' : 'a replay of a new key';
          }
        },
        onResponseData: () => undefined,
        onResponseEnd: () => {
          if (wrong === undefined) this.tally.arrived(1, since);
          else this.tally.failed(wrong);
          next();
        },
        onResponseError: (_controller, error) => {
          this.tally.failed(error.message);
          next();
        },
      },
    );
  }
}
