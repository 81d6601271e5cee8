import type { ActiveRun } from '../../lib/core/active-run.js';
import { Engine } from '../../lib/core/engine.js';
import { recordKeyOf } from '../../lib/core/record-key.js';
import type { ClaimRef } from '../../lib/core/record.js';
import type { RunOutcome } from '../../lib/core/settle.js';
import type { ClaimResult, IdempotencyStore } from '../../lib/core/store.js';
import { resolvePolicy } from '../../lib/nest/resolve-options.js';
import { markOf } from '../chaos/checker/answers.js';
import { subjectOf, type Answer, type Event, type StoreCallEvent } from '../chaos/checker/history.js';
import type { Request, Scenario } from './scenario.js';
import { remoteStore } from './simulated-store.js';
import { answerOf, claimFacts, refusalOf, type Ran } from './told.js';

export const OPERATION = 'POST /charges';
export const SECRET = 'simulation';

/** What processes need of the world that they live in. */
export interface Surroundings {
  /** Times of the history: the clock, and within one moment the order of the steps. */
  readonly now: number;
  /** Sends something to the store or to the world outside; it arrives and is answered when the scheduler says so. */
  send(process: number, name: string, work: () => Promise<unknown>): Promise<unknown>;
  /** A hint of the store is on its way. */
  hint(process: number, wake: () => void): void;
  /** From here on, what is set off belongs to this process. */
  enter(process: number): void;
}

interface Owner {
  readonly op: string;
  readonly subject: string;
}

/** The application processes: an engine each, the unmodified one, and what their clients see. Writes the history. */
export class Processes {
  readonly events: Event[] = [];
  readonly engines = new Map<number, Engine>();
  private readonly dead = new Set<number>();
  /** What clients of a process do when it dies: their requests are lost. */
  private readonly clients = new Map<number, Set<() => void>>();
  private current: Owner = { op: '', subject: '' };
  private readonly owners = new Map<string, Owner & { readonly token: string }>();

  constructor(
    private readonly scenario: Scenario,
    private readonly store: IdempotencyStore,
    private readonly around: Surroundings,
  ) {}

  isDead(process: number): boolean {
    return this.dead.has(process);
  }

  /** Its code runs no further. */
  kill(process: number): void {
    this.dead.add(process);
    this.engines.delete(process);
    for (const lose of this.clients.get(process) ?? []) lose();
  }

  fault(kind: string, process: number): void {
    const { now } = this.around;
    this.events.push({ type: 'fault', kind, server: String(process), from: now, to: now });
  }

  /** Sends a request and notes what its client is told. */
  async request(request: Request, process: number, op: string, final: boolean): Promise<Answer> {
    const subject = subjectOf(OPERATION, request.scope, request.key);
    const from = this.around.now;
    const lost = new Promise<Answer>((resolve) => {
      const lose = (): void => resolve({ kind: 'lost' });
      if (this.isDead(process)) lose();
      else this.clients.set(process, (this.clients.get(process) ?? new Set()).add(lose));
    });
    const told = this.isDead(process) ? lost : this.execute(request, process, { op, subject });
    const answer = await Promise.race([lost, told]);
    this.events.push({
      ...{ type: 'request', op, subject, payload: request.payload, server: String(process), from, to: this.around.now },
      answer,
      ...(final && { final: true }),
    });
    return answer;
  }

  /** The content of the store. */
  async dump(): Promise<void> {
    this.events.push({ type: 'mark', what: 'dump', at: this.around.now });
    const keys = new Map(
      this.scenario.requests.map(({ scope, key }) => [subjectOf(OPERATION, scope, key), { scope, key }]),
    );
    for (const [subject, { scope, key }] of keys) {
      const record = await this.store.find(recordKeyOf({ scope, operation: OPERATION, key }));
      if (!record) continue;
      const { answer, state } = record;
      const digest = answer?.kept === true ? { digest: Buffer.from(answer.body).toString() } : {};
      this.events.push({ type: 'record', subject, state, ...(answer && { kept: answer.kept === true }), ...digest });
    }
  }

  private async execute(request: Request, process: number, owner: Owner): Promise<Answer> {
    const { mode, leaseMs, retentionMs } = this.scenario;
    let ran: Ran | undefined;
    const run = async (active: ActiveRun): Promise<RunOutcome<void>> => {
      const { fencingToken: fence, attempt } = active.claim;
      if (request.handler === 'fails once' && attempt === 1) return { kind: 'release', began: true };
      if (request.handler === 'is slow') await this.waitFor(2.4 * leaseMs);
      await this.effect(request, process, owner, fence, attempt);
      ran = { fence, body: JSON.stringify({ run: fence, mark: markOf(SECRET, owner.subject, request.payload) }) };
      return request.handler === 'is not kept'
        ? { kind: 'record', answer: { kept: false, status: 201, reason: 'too_large' } }
        : { kind: 'record', answer: { kept: true, status: 201, headers: [], body: Buffer.from(ran.body) } };
    };
    const options = {
      lease: leaseMs,
      retention: retentionMs,
      maxDuration: 100 * leaseMs,
      joinTimeout: 5 * leaseMs,
    } as const;
    const { inFlight } = request;
    const policy = resolvePolicy({ ...options, afterCrash: mode, ...(inFlight && { inFlight }) }, 'simulation');
    const call = { scope: request.scope, operation: OPERATION, key: request.key, fingerprint: request.payload, policy };
    this.around.enter(process);
    this.current = owner;
    try {
      return answerOf(await this.engineOf(process).execute<void>(call, run), ran);
    } catch (error) {
      return refusalOf(error);
    }
  }

  private effect(
    request: Request,
    process: number,
    { op, subject }: Owner,
    fence: number,
    attempt: number,
  ): Promise<unknown> {
    const { payload } = request;
    const take = async (): Promise<void> => {
      const { now: at } = this.around;
      this.events.push({ type: 'effect', subject, payload, server: String(process), fence, attempt, at });
    };
    return this.scenario.instantEffects ? take() : this.around.send(process, `${op}: effect`, take);
  }

  private waitFor(ms: number): Promise<void> {
    return new Promise((resolve) => void setTimeout(resolve, ms));
  }

  private engineOf(process: number): Engine {
    let engine = this.engines.get(process);
    if (!engine) {
      const store = remoteStore(
        this.store,
        (method, args, work) => this.storeCall(process, method, args, work),
        (wake) => this.around.hint(process, wake),
      );
      const cache = this.scenario.replayCache ? { maxBytes: 1e6, maxRecords: 100, maxAgeMs: 2_000 } : false;
      this.engines.set(process, (engine = new Engine(store, cache)));
    }
    return engine;
  }

  private storeCall(
    process: number,
    method: string,
    args: readonly unknown[],
    work: () => Promise<unknown>,
  ): Promise<unknown> {
    const { claimToken } = args[0] as ClaimRef;
    if (claimToken === undefined) return this.around.send(process, `${process}: ${method}`, work);
    let owner = this.owners.get(claimToken);
    // A claim is asked for in the turn in which its request was sent. Tokens are random; the history is not.
    if (!owner) this.owners.set(claimToken, (owner = { ...this.current, token: `t${this.owners.size + 1}` }));
    const event: StoreCallEvent = {
      ...{
        type: 'store',
        method: method as StoreCallEvent['method'],
        ...owner,
        server: String(process),
        from: this.around.now,
      },
    };
    const index = this.events.push(event) - 1;
    const returned = (got: Partial<StoreCallEvent>): void => {
      this.events[index] = { ...event, to: this.around.now, ...got };
    };
    const reply = this.around.send(process, `${owner.op}: ${method}`, work);
    reply.then(
      (result) => returned(method === 'claim' ? claimFacts(result as ClaimResult) : { got: String(result) }),
      () => returned({ got: 'error' }),
    );
    return reply;
  }
}
