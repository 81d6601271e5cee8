import type { Answer, RequestEvent } from './history.js';
import type { KeyHistory } from './key-history.js';
import { isTrue, isUnheard, mayComplete, mayRelease, needsTruth, type State } from './truth.js';

/** A state, and what else the past means for the future. Requests are bits, by their places. */
interface Config {
  readonly state: State;
  /** The earliest time at which the state can have begun. */
  readonly since: number;
  /** Who has had a claim: each request wins one at most. */
  readonly claimed: number;
  /** Those under way of whom it is settled that what they will be told was true. */
  readonly told: number;
}

/** A request that may still do something. */
interface Actor {
  readonly op: number;
  readonly bit: number;
  readonly until: number;
}

const ABSENT: State = { kind: 'absent', payload: '', op: -1, prior: 'absent', digest: '' };
/** Late statements are carried out within so many leases, or never. */
const LATE_LEASES = 12;
/** As many requests as there are bits can be followed at a time. */
const MOST_ACTORS = 31;

export function checkOrder(key: KeyHistory): void {
  const failed = new Model(key).search();
  if (failed) key.fail('I8', `nothing explains that request ${failed.op} got ${describe(failed.answer)}`);
}

function describe(answer: Answer): string {
  return answer.kind === 'answered'
    ? `${answer.replayed ? 'a replay' : 'an answer'} of run ${answer.run}`
    : answer.kind;
}

/**
 * I8: is there an order of claims, completions and lease ends in which every client of a key was told
 * the truth? Of the record, the model knows what the contract says and nothing of how it is stored.
 *
 * All states that the record can be in are followed through the clients' history at once: a request
 * may take effect at any time between its start and its end, one whose client heard nothing (or that
 * the store was away) also later, or never. When a request returns, only those states remain in
 * which what it was told was true at some moment while it was under way. None left: a violation.
 */
class Model {
  private readonly requests: readonly RequestEvent[];
  private configs = new Frontier();
  private readonly actors = new Map<number, Actor>();
  private readonly open = new Set<number>();
  private readonly leaseMs: number;
  private readonly takesOver: boolean;
  /** Whether a run can be told that the store was away: its transaction is undone, and the claim released. */
  private readonly isUndone: boolean;

  constructor(private readonly key: KeyHistory) {
    this.requests = key.requests;
    this.leaseMs = key.run.settings.leaseMs;
    this.takesOver = key.run.settings.mode !== 'block';
    this.isUndone = key.run.settings.mode === 'transaction';
    this.configs.add({ state: ABSENT, since: 0, claimed: 0, told: 0 });
  }

  /** The first request whose answer cannot be explained. */
  search(): RequestEvent | undefined {
    const events = this.requests
      .flatMap(({ from, to }, op) => [
        { at: from, op, starts: true },
        { at: to, op, starts: false },
      ])
      .sort((a, b) => a.at - b.at || Number(b.starts) - Number(a.starts));
    let last = 0;
    for (const { at, op, starts } of events) {
      this.advance(last, at);
      last = at;
      if (!starts && !this.close(op)) return this.requests[op];
      // A key with so many requests at once cannot be followed; the other rules still hold for it.
      if (starts && !this.begin(op)) return undefined;
    }
    return undefined;
  }

  private begin(op: number): boolean {
    const taken = [...this.actors.values()].reduce((bits, { bit }) => bits | bit, 0);
    let place = 0;
    while (place < MOST_ACTORS && (taken & (1 << place)) !== 0) place += 1;
    if (place === MOST_ACTORS) return false;
    this.open.add(op);
    this.actors.set(op, { op, bit: 1 << place, until: Infinity });
    return true;
  }

  private close(op: number): boolean {
    const { answer, to } = this.requests[op]!;
    const actor = this.actors.get(op)!;
    const rest = new Frontier();
    for (const config of this.configs) {
      if (needsTruth(answer) && (config.told & actor.bit) === 0) continue;
      rest.add({ ...config, told: config.told & ~actor.bit });
    }
    this.open.delete(op);
    this.configs = rest;
    if (isUnheard(answer)) this.actors.set(op, { ...actor, until: to + LATE_LEASES * this.leaseMs });
    else this.retire(actor);
    return rest.size > 0;
  }

  /** It can do nothing more; its place goes to another. */
  private retire({ op, bit }: Actor): void {
    this.actors.delete(op);
    const rest = new Frontier();
    for (const config of this.configs) rest.add({ ...config, claimed: config.claimed & ~bit });
    this.configs = rest;
  }

  /** Everything that can have happened from `last` to `now`. */
  private advance(last: number, now: number): void {
    for (const actor of this.actors.values()) if (actor.until < last) this.retire(actor);
    const reached = new Frontier();
    const work: Config[] = [];
    const add = (config: Config): void => {
      for (const seen of this.observed(config)) if (reached.add(seen)) work.push(seen);
    };
    for (const config of this.configs) add(config);
    for (let config = work.pop(); config; config = work.pop()) this.step(config, last, now, add);
    this.configs = reached;
  }

  private step(config: Config, last: number, now: number, add: (config: Config) => void): void {
    const { state, since } = config;
    switch (state.kind) {
      case 'absent':
        for (const actor of this.actors.values()) this.claim(config, actor, last, 'absent', add);
        break;
      case 'abandoned':
        for (const actor of this.takesOver ? this.actors.values() : []) {
          if (this.requests[actor.op]!.payload === state.payload) this.claim(config, actor, last, 'abandoned', add);
        }
        if (this.takesOver && now >= since + this.key.retentionMs) add({ ...config, state: ABSENT, since: 0 });
        // A claim of which its maker never heard is given back, also when its lease is over.
        if (state.prior === 'absent' && isUnheard(this.requests[state.op]!.answer)) {
          add({ ...config, state: ABSENT, since: 0 });
        }
        break;
      case 'running':
        this.endRun(config, last, now, add);
        break;
      case 'completed':
        if (now >= since + this.key.retentionMs) add({ ...config, state: ABSENT, since: 0 });
        break;
    }
  }

  private claim(
    config: Config,
    { op, bit }: Actor,
    since: number,
    prior: State['prior'],
    add: (config: Config) => void,
  ): void {
    if ((config.claimed & bit) !== 0) return;
    const { payload } = this.requests[op]!;
    const state: State = { kind: 'running', payload, op, prior, digest: '' };
    add({ ...config, state, since, claimed: config.claimed | bit });
  }

  private endRun(config: Config, last: number, now: number, add: (config: Config) => void): void {
    const { state } = config;
    const request = this.requests[state.op]!;
    const { answer } = request;
    const abandoned: State = { ...state, kind: 'abandoned' };
    if (mayComplete(request, this.leaseMs)) {
      const isAnswered = answer.kind === 'answered';
      const own = isAnswered && this.open.has(state.op) ? this.actors.get(state.op)!.bit : 0;
      const completed: State = {
        ...ABSENT,
        kind: 'completed',
        payload: state.payload,
        digest: isAnswered ? answer.digest : '',
      };
      add({ ...config, told: config.told | own, state: completed, since: last });
    }
    // A claim that is given back leaves things as they were; a handler that failed leaves nothing. (Where
    // the reply to that is lost and another claim comes, the client is told what became of that one.)
    if (isUnheard(answer)) {
      add(
        state.prior === 'absent'
          ? { ...config, state: ABSENT, since: 0 }
          : { ...config, state: abandoned, since: last },
      );
    }
    if (mayRelease(answer) || (this.isUndone && answer.kind === 'unavailable'))
      add({ ...config, state: ABSENT, since: 0 });
    if (now >= config.since + this.leaseMs) add({ ...config, state: abandoned, since: last });
  }

  /** The config with a note for whom of those under way it makes true what they will be told. */
  private observed(config: Config): Config[] {
    const { state } = config;
    let { told } = config;
    const others: Config[] = [];
    for (const op of this.open) {
      const { bit } = this.actors.get(op)!;
      if ((told & bit) !== 0) continue;
      const { answer, payload } = this.requests[op]!;
      if (isTrue(answer, op, payload, state, (config.claimed & bit) !== 0)) told |= bit;
      else if (state.kind === 'completed' && state.digest === '' && answer.kind === 'answered' && answer.replayed) {
        // The first that anybody hears of this run's answer: from here on it is this one.
        if (state.payload === payload) others.push({ ...config, state: { ...state, digest: answer.digest } });
      }
    }
    return [{ ...config, told }, ...others.flatMap((other) => this.observed({ ...other, told: other.told | told }))];
  }
}

/** Configs of which none is worth less than another: what can become of a lesser one can become of the other too. */
class Frontier implements Iterable<Config> {
  size = 0;
  private readonly byState = new Map<string, Config[]>();

  /** Whether it says something new. */
  add(config: Config): boolean {
    const { kind, payload, op, prior, digest } = config.state;
    const name = `${kind} ${op} ${prior} ${payload} ${digest}`;
    const list = this.byState.get(name) ?? [];
    if (list.some((other) => covers(other, config))) return false;
    const rest = list.filter((other) => !covers(config, other));
    this.size += 1 + rest.length - list.length;
    rest.push(config);
    this.byState.set(name, rest);
    return true;
  }

  *[Symbol.iterator](): Iterator<Config> {
    for (const list of this.byState.values()) yield* list;
  }
}

function covers(one: Config, other: Config): boolean {
  return (
    one.since <= other.since && (one.told & other.told) === other.told && (one.claimed & other.claimed) === one.claimed
  );
}
