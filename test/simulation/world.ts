import { MemoryStore } from '../../lib/stores/memory/memory-store.js';
import type { IdempotencyStore } from '../../lib/core/store.js';
import type { History } from '../chaos/checker/history.js';
import { FakeTime } from './fake-time.js';
import { OPERATION, Processes, SECRET, type Surroundings } from './processes.js';
import type { Request, Scenario } from './scenario.js';
import { Call } from './simulated-store.js';

/** A bound for schedules that would never end; far above what any needs. */
const MOST_STEPS = 2_000;
/** The process of the last requests, which nothing happens to. */
const LAST_PROCESS = 1_000;
const START_OF_CLOCK = 1_800_000_000_000;

export interface Action {
  readonly name: string;
  readonly run: () => void | Promise<void>;
}

/** Picks one of several actions, by number. */
export type Choose = (actions: readonly Action[]) => number;

interface Hint {
  readonly process: number;
  readonly wake: () => void;
}

/**
 * Processes with an engine each, one store, one clock. Everything that could come in another order is
 * a step that the scheduler chooses; what a step sets off inside a process runs to its end before the next.
 */
export class World implements Surroundings {
  readonly trace: string[] = [];
  private readonly time = new FakeTime();
  private readonly store: IdempotencyStore;
  private readonly processes: Processes;
  private readonly budget: { -readonly [kind in keyof Scenario['faults']]: number };
  private waiting: { request: Request; attempt: number }[];
  private calls: Call[] = [];
  private hints: Hint[] = [];
  private running = 0;
  private steps = 0;

  constructor(
    private readonly scenario: Scenario,
    private readonly choose: Choose,
  ) {
    this.budget = { ...scenario.faults };
    this.waiting = scenario.requests.map((request) => ({ request, attempt: 1 }));
    const store = new MemoryStore({ clock: { now: () => START_OF_CLOCK + this.time.now } });
    this.store = scenario.storeOf?.(store) ?? store;
    this.processes = new Processes(scenario, this.store, this);
  }

  async run(): Promise<History> {
    this.time.install();
    try {
      while (await this.turn());
      await this.settleDown();
      await this.lastRequests();
      await this.processes.dump();
    } finally {
      this.time.restore();
    }
    const { mode, leaseMs, retentionMs } = this.scenario;
    const settings = {
      store: 'simulated',
      mode,
      leaseMs,
      secret: SECRET,
      purgeMs: Infinity,
      graceMs: 0,
      deadlineMs: Infinity,
    };
    // The store counts whole milliseconds, and rounds down the moment from which it counts; the steps of a schedule lie closer.
    const retentions = { [OPERATION]: retentionMs - 1 };
    return { settings: { ...settings, retentions }, events: this.processes.events };
  }

  get now(): number {
    return this.time.now + this.steps / 1e6;
  }

  send(process: number, name: string, work: () => Promise<unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (!this.processes.isDead(process)) this.calls.push(new Call(process, name, work, resolve, reject));
    });
  }

  hint(process: number, wake: () => void): void {
    if (!this.processes.isDead(process)) this.hints.push({ process, wake });
  }

  enter(process: number): void {
    this.time.owner = process;
  }

  /** One step of the scheduler; false when nothing is left to be done. */
  private async turn(): Promise<boolean> {
    const must = this.mandatory();
    const late = this.calls.filter((call) => call.returned && !call.arrived);
    const actions = [...must, ...late.map((call) => this.arrival(call)), ...this.optional()];
    if (must.length === 0) {
      // What is under way arrives, or is lost, before the clock goes on by itself.
      for (const call of late) actions.push({ name: `lose ${call.name}`, run: () => void (call.dropped = true) });
      if (late.length === 0) {
        const due = this.time.nextDue;
        if (due === undefined || this.running === 0) return false;
        actions.unshift({ name: 'time passes', run: () => this.passTime(due) });
      }
    }
    await this.perform(actions[actions.length > 1 ? this.choose(actions) : 0]!);
    return true;
  }

  private async perform(action: Action): Promise<void> {
    this.trace.push(action.name);
    if ((this.steps += 1) > MOST_STEPS)
      throw new Error(`The schedule does not end: ${this.trace.slice(-20).join(', ')}`);
    await action.run();
    // Lets everything run that needs no timer and no store.
    await new Promise<void>((resolve) => void setImmediate(resolve));
    this.calls = this.calls.filter((call) => !call.dropped && !(call.returned && call.arrived));
  }

  /** What comes sooner or later by itself. */
  private mandatory(): Action[] {
    const actions: Action[] = [];
    const [next] = this.waiting;
    if (next) actions.push({ name: `start ${nameOf(next.request, next.attempt)}`, run: () => this.start() });
    for (const call of this.calls) {
      if (call.returned) continue;
      if (!call.arrived) actions.push(this.arrival(call));
      else actions.push({ name: `answer ${call.name}`, run: () => this.within(call.process, () => call.reply()) });
    }
    for (const process of this.processes.engines.keys()) {
      const timer = this.time.dueOf(process);
      if (!timer) continue;
      actions.push({ name: `timer of ${process}`, run: () => this.within(process, () => this.time.fire(timer)) });
    }
    return actions;
  }

  private arrival(call: Call): Action {
    return { name: call.name, run: () => call.arrive() };
  }

  /** What goes wrong, as long as the scenario allows for it; and hints, which may come or not. */
  private optional(): Action[] {
    const actions: Action[] = [];
    const fault = (kind: keyof Scenario['faults'], name: string, run: () => unknown): void => {
      if (this.budget[kind] <= 0) return;
      const spend = async (): Promise<void> => {
        this.budget[kind] -= 1;
        await run();
      };
      actions.push({ name: `${kind} ${name}`, run: spend });
    };
    for (const call of this.calls) {
      if (call.returned || call.isEffect) continue;
      // Sent twice and then given up: a copy that arrives later could win for nobody. Stores that
      // send again remember what was given back; the model of the store here does not.
      if (!call.resent) fault('cut', call.name, () => this.cut(call));
      if (call.arrived) fault('resend', call.name, () => call.resend());
    }
    for (const process of this.processes.engines.keys()) fault('kill', String(process), () => this.kill(process));
    fault('jump', '', () => this.jump());
    const due = this.time.nextDue;
    if (due !== undefined && due > this.time.now) fault('tick', '', () => this.passTime(due));
    fault('purge', '', () => this.store.purge(100));
    for (const hint of this.hints) actions.push({ name: `hint to ${hint.process}`, run: () => this.giveHint(hint) });
    return actions;
  }

  private cut(call: Call): void {
    this.processes.fault('cut', call.process);
    this.within(call.process, () => call.cut());
  }

  private kill(process: number): void {
    this.processes.fault('kill', process);
    this.processes.kill(process);
    this.time.drop(process);
    this.hints = this.hints.filter((hint) => hint.process !== process);
    // What it has sent may still arrive.
    for (const call of this.calls) if (call.process === process) call.returned = true;
  }

  private jump(): void {
    const from = this.time.now;
    this.passTime(from + this.scenario.leaseMs + 1);
    this.processes.events.push({ type: 'fault', kind: 'jump', from, to: this.time.now });
  }

  private giveHint(hint: Hint): void {
    this.hints = this.hints.filter((other) => other !== hint);
    this.within(hint.process, hint.wake);
  }

  private within(process: number, run: () => void): void {
    this.enter(process);
    run();
  }

  private passTime(to: number): void {
    this.time.now = Math.max(this.time.now, to);
  }

  private start(): void {
    const { request, attempt } = this.waiting.shift()!;
    // Each further try goes to another process.
    const process = request.process + 100 * (attempt - 1);
    this.running += 1;
    void this.processes.request(request, process, nameOf(request, attempt), false).then((answer) => {
      this.running -= 1;
      const isDecided = ['answered', 'reused', 'not_kept'].includes(answer.kind);
      if (!isDecided && attempt <= (request.retries ?? 0)) this.waiting.push({ request, attempt: attempt + 1 });
    });
  }

  /** No more faults: what is under way arrives, timers fire, until the engines have nothing left to do. */
  private async settleDown(): Promise<void> {
    for (;;) {
      const [next] = this.mandatory();
      const [late] = this.calls;
      const due = this.time.nextDue;
      if (next) await this.perform(next);
      else if (late) await this.perform(this.arrival(late));
      else if (due !== undefined) await this.perform({ name: 'time passes', run: () => this.passTime(due) });
      else break;
    }
    this.passTime(this.time.now + this.scenario.leaseMs + 1);
  }

  private async lastRequests(): Promise<void> {
    const different = new Map(
      this.scenario.requests.map((request) => [`${request.scope} ${request.key} ${request.payload}`, request]),
    );
    for (const request of different.values()) {
      const answer = this.processes.request(
        { ...request, handler: 'records' },
        LAST_PROCESS,
        `last ${request.name}`,
        true,
      );
      await this.settleDown();
      await answer;
    }
  }
}

function nameOf({ name }: Request, attempt: number): string {
  return attempt === 1 ? name : `${name}.${attempt}`;
}
