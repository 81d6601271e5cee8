import { markOf } from './answers.js';
import { check } from './check.js';
import { subjectOf, type Answer, type Event, type History, type Settings, type StoreCallEvent } from './history.js';

export const OPERATION = 'POST /charges';
export const SUBJECT = subjectOf(OPERATION, 'acme', 'k1');

const SETTINGS: Settings = {
  ...{ store: 'postgres', mode: 'block', leaseMs: 1_000, retentions: { [OPERATION]: 60_000 } },
  ...{ purgeMs: 200, graceMs: 100, deadlineMs: 600, secret: 'secret' },
};

interface Where {
  readonly server?: string;
  readonly payload?: string;
  readonly attempt?: number;
  readonly final?: true;
}

/** A recorded answer of this run, of the request with this payload. */
export function answered(run: number, { replayed = false, payload = 'p', digest = `digest of ${run}` } = {}): Answer {
  return { kind: 'answered', status: 201, digest, run, replayed, mark: markOf('secret', SUBJECT, payload) };
}

/** A history of one key, written by hand. Times are milliseconds. */
export class Story {
  private readonly events: Event[] = [];

  constructor(private readonly settings: Partial<Settings> = {}) {}

  /** A request and what its client was told. */
  request(op: string, [from, to]: readonly [number, number], answer: Answer | Answer['kind'], where: Where = {}): this {
    const told = typeof answer === 'string' ? ({ kind: answer } as Answer) : answer;
    const { server = 'one', payload = 'p', final } = where;
    return this.add({
      ...{ type: 'request', op, subject: SUBJECT, payload, server, from, to, answer: told },
      ...(final && { final }),
    });
  }

  /** A call of the store under the claim of a request; its token is the request's name. */
  call(
    op: string,
    method: StoreCallEvent['method'],
    [from, to]: readonly [number, number?],
    facts: Partial<StoreCallEvent> = {},
  ): this {
    const event: StoreCallEvent = { type: 'store', method, op, subject: SUBJECT, server: 'one', token: op, from };
    return this.add({ ...event, ...(to !== undefined && { to }), ...facts });
  }

  /** A claim that is won, of the first attempt unless `facts` says otherwise. */
  wins(op: string, times: readonly [number, number?], fence: number, facts: Partial<StoreCallEvent> = {}): this {
    return this.call(op, 'claim', times, { got: 'claimed', fence, attempt: 1, tookOver: false, ...facts });
  }

  effect(fence: number, at: number, { payload = 'p', server = 'one', attempt = 1 }: Where = {}): this {
    return this.add({ type: 'effect', subject: SUBJECT, payload, server, fence, attempt, at });
  }

  /** A completion that has become true with the commit of its transaction. */
  committed(fence: number): this {
    return this.add({ type: 'completion', subject: SUBJECT, fence });
  }

  fault(kind: string, [from, to]: readonly [number, number], server?: string): this {
    return this.add({ type: 'fault', kind, from, to, ...(server !== undefined && { server }) });
  }

  add(event: Event): this {
    this.events.push(event);
    return this;
  }

  /** A whole run, from the claim to the answer, in 60 milliseconds. */
  run(op: string, fence: number, from: number, { payload = 'p', server = 'one', ...facts }: RunFacts = {}): this {
    const { attempt = 1 } = facts;
    this.wins(op, [from, from + 10], fence, { server, ...facts }).effect(fence, from + 20, {
      payload,
      server,
      attempt,
    });
    this.call(op, 'complete', [from + 30, from + 40], { server, got: 'written' });
    return this.request(op, [from, from + 60], answered(fence, { payload }), { server, payload });
  }

  /** What lay in the store at the end. */
  stored(
    at: number,
    record?: { state?: string; fence?: number; digest?: string; remainingMs?: number; kept?: boolean },
  ): this {
    this.add({ type: 'mark', what: 'dump', at });
    return record ? this.add({ type: 'record', subject: SUBJECT, state: 'completed', ...record }) : this;
  }

  get history(): History {
    return { settings: { ...SETTINGS, ...this.settings }, events: this.events };
  }

  /** The rules that the history breaks, each once. */
  get broken(): string[] {
    return [...new Set(check(this.history).map(({ invariant }) => invariant))].sort();
  }
}

interface RunFacts extends Partial<StoreCallEvent> {
  readonly payload?: string;
}
