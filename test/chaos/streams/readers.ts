import { setTimeout as sleep } from 'node:timers/promises';
import { oneOf, random, whole, type Random } from '../../simulation/random.js';
import type { Cluster } from '../cluster.js';
import type { ReadingEvent } from './history.js';
import { read } from './reading.js';

/** The body of a request for a stream. */
export interface StreamAsk {
  readonly n: number;
  /** Milliseconds between two tokens. */
  readonly pause: number;
  /** The source fails after its last token. */
  readonly fails: boolean;
}

export interface StreamOperation {
  readonly key: string;
  readonly route: 'events' | 'bytes';
  readonly ask: StreamAsk;
}

/** Answers in a row that one reader asks for. */
const MOST_TRIES = 8;
/** And at the end, 200 ms apart: all is healed, and whoever is told to come later does. */
const MOST_TRIES_AT_THE_END = 50;
const COME_LATER: ReadonlySet<string | undefined> = new Set([
  'idempotency_in_progress',
  'idempotency_store_unavailable',
]);
/** Keys that are in use at the same time. */
const IN_USE = 12;
/** Cursors of a stream that readers remember: of each attempt the first one that anybody got. */
type Remembered = Map<string, string>;

/** The readers: several at once of the same stream, which drop it, come back with their cursor or without, elsewhere. */
export class Readers {
  readonly events: ReadingEvent[] = [];
  readonly used: StreamOperation[] = [];
  private readonly remembered = new Map<string, Remembered>();

  constructor(
    private readonly cluster: Cluster,
    private readonly seed: number,
    private readonly patienceMs: number,
  ) {}

  async run(readers: number, signal: AbortSignal): Promise<void> {
    await Promise.all(
      Array.from({ length: readers }, async (_, i) => {
        const draw = random(this.seed * 41 + i);
        while (!signal.aborted) await this.follow(this.next(draw), draw, signal);
      }),
    );
  }

  /** Reads every stream from its start to its end, with nobody to disturb it. */
  async finish(readers: number, signal: AbortSignal): Promise<void> {
    const left = [...this.used];
    const draw = random(this.seed * 43);
    await Promise.all(
      Array.from({ length: readers }, async () => {
        for (let operation = left.pop(); operation && !signal.aborted; operation = left.pop()) {
          await this.finishOne(operation, draw);
        }
      }),
    );
  }

  private async finishOne(operation: StreamOperation, draw: Random): Promise<void> {
    let final: ReadingEvent | undefined;
    for (let tries = 1; !final; tries++) {
      const reading = await this.ask(operation, draw, undefined, Infinity);
      const isEarly = COME_LATER.has(reading?.code) || reading?.reason === 'store_unavailable';
      const isLast = reading !== undefined && (tries === MOST_TRIES_AT_THE_END || !isEarly);
      if (isLast) final = { ...reading, final: true };
      if (reading) this.note(final ?? reading);
      if (!final) await sleep(200);
    }
    // Whoever was away all the time comes back with what it had of an earlier attempt.
    const last = attemptOf(final);
    for (const [attempt, cursor] of this.remembered.get(operation.key) ?? []) {
      const reading = attempt === last ? undefined : await this.ask(operation, draw, cursor, Infinity);
      if (reading) this.note(reading);
    }
  }

  private note(reading: ReadingEvent): void {
    this.events.push(reading);
    const attempt = attemptOf(reading);
    if (!attempt) return;
    const attempts = this.remembered.get(reading.key) ?? new Map<string, string>();
    this.remembered.set(reading.key, attempts);
    if (!attempts.has(attempt)) attempts.set(attempt, reading.items[0]![0]);
  }

  private next(draw: Random): StreamOperation {
    if (this.used.length > 0 && draw() < 0.6) return oneOf(draw, this.used.slice(-IN_USE));
    const operation: StreamOperation = {
      key: `stream-${this.used.length + 1}`,
      route: draw() < 0.75 ? 'events' : 'bytes',
      ask: { n: 10 + whole(draw, 50), pause: 2 + whole(draw, 25), fails: draw() < 0.15 },
    };
    this.used.push(operation);
    return operation;
  }

  private async follow(operation: StreamOperation, draw: Random, signal: AbortSignal): Promise<void> {
    const known = [...(this.remembered.get(operation.key)?.values() ?? [])];
    let cursor = known.length > 0 && draw() < 0.1 ? oneOf(draw, known) : undefined;
    for (let tries = 1; tries <= MOST_TRIES && !signal.aborted; tries++) {
      const leaveAfter = draw() < 0.6 ? whole(draw, operation.ask.n) : Infinity;
      const reading = await this.ask(operation, draw, cursor, leaveAfter);
      if (!reading) continue;
      this.note(reading);
      const { end, items, code } = reading;
      // After an interruption some come back: for the same again, or for another attempt.
      const comesBack = ['cut', 'left', 'silent', 'refused'].includes(end) || (end === 'interrupted' && draw() < 0.5);
      if (!comesBack) return;
      const last = items[items.length - 1]?.[0];
      if (operation.route === 'events' && draw() < 0.85) cursor = last ?? cursor;
      else cursor = undefined;
      if (code === 'idempotency_cursor_invalid') cursor = undefined;
      await sleep(draw() * 150);
    }
  }

  private async ask(
    { key, route, ask }: StreamOperation,
    draw: Random,
    cursor: string | undefined,
    leaveAfter: number,
  ): Promise<ReadingEvent | undefined> {
    const { listening } = this.cluster;
    if (listening.length === 0) {
      await sleep(50);
      return undefined;
    }
    const { name: server, port } = oneOf(draw, listening);
    const { patienceMs } = this;
    return read({ key, route, body: JSON.stringify(ask), server, port, cursor, leaveAfter, patienceMs });
  }
}

/** The stream and the attempt that a reading was of, as its ids name them. */
function attemptOf({ items }: ReadingEvent): string | undefined {
  const id = items[0]?.[0];
  return id ? id.slice(0, id.lastIndexOf('.')) : undefined;
}
