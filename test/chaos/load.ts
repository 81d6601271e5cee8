import { setTimeout as sleep } from 'node:timers/promises';
import { oneOf, random, type Random } from '../simulation/random.js';
import type { RequestEvent, Settings } from './checker/history.js';
import type { Client } from './client.js';
import type { Cluster } from './cluster.js';
import { OPERATIONS, type Operation, type Workload } from './workload.js';
import { subjectOf } from './checker/history.js';

/** Tries in a row by one client, with their duplicates. */
const MOST_TRIES = 6;

/** The clients: each takes an operation, asks at several servers at once, and tries again until it has an answer. */
export class Load {
  readonly events: RequestEvent[] = [];
  /** Every key that was used, with what it was used for. */
  readonly used = new Map<string, Operation>();
  private count = 0;
  private open = 0;

  constructor(
    private readonly cluster: Cluster,
    private readonly client: Client,
    private readonly workload: Workload,
    private readonly mode: Settings['mode'],
    private readonly seed: number,
  ) {}

  /** Requests that have no answer yet. */
  get underWay(): number {
    return this.open;
  }

  /** So many clients at work until the signal. */
  async run(clients: number, signal: AbortSignal): Promise<void> {
    await Promise.all(Array.from({ length: clients }, (_, i) => this.work(random(this.seed * 31 + i), signal)));
  }

  /** Asks for every key once more, until it is decided; the last answer of each is marked as the final one. */
  async finish(clients: number, signal: AbortSignal): Promise<void> {
    const left = [...this.used.values()];
    const draw = random(this.seed * 37);
    const work = async (): Promise<void> => {
      for (let operation = left.pop(); operation && !signal.aborted; operation = left.pop()) {
        await this.finishOne(operation, draw);
      }
    };
    await Promise.all(Array.from({ length: clients }, work));
  }

  private async finishOne(operation: Operation, draw: Random): Promise<void> {
    for (let tries = 1; ; tries++) {
      const event = await this.ask(operation, draw);
      const isLast = event !== undefined && (isDecided(event) || this.isStuck(event) || tries === MOST_TRIES);
      if (event) this.events.push(isLast ? { ...event, final: true } : event);
      if (isLast) return;
      await sleep(100);
    }
  }

  /** Where nothing runs twice, an unknown outcome stays so; elsewhere the next retry runs. */
  private isStuck({ answer }: RequestEvent): boolean {
    return answer.kind === 'unknown' && this.mode === 'block';
  }

  private async work(draw: Random, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const operation = this.workload.next();
      const { route, tenant, key } = operation;
      const subject = subjectOf(OPERATIONS[route], tenant, key);
      if (!this.used.has(subject)) this.used.set(subject, operation);
      for (let tries = 1; tries <= MOST_TRIES && !signal.aborted; tries++) {
        const copies = tries === 1 ? operation.duplicates : 1;
        const events = await Promise.all(Array.from({ length: copies }, () => this.ask(operation, draw)));
        const heard = events.filter((event) => event !== undefined);
        this.events.push(...heard);
        if (heard.some(isDecided)) break;
        // A client that retries at once would mostly hear that it is too early.
        await sleep(30 + draw() * 300);
      }
    }
  }

  private async ask(operation: Operation, draw: Random): Promise<RequestEvent | undefined> {
    const { listening } = this.cluster;
    if (listening.length === 0) {
      await sleep(50);
      return undefined;
    }
    const { name, port } = oneOf(draw, listening);
    this.open += 1;
    try {
      return await this.client.send(operation, name, port, `r${(this.count += 1)}`);
    } finally {
      this.open -= 1;
    }
  }
}

function isDecided({ answer }: RequestEvent): boolean {
  return ['answered', 'not_kept', 'unsent', 'reused'].includes(answer.kind);
}
