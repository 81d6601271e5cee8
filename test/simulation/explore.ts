import { check } from '../chaos/checker/check.js';
import type { History, Violation } from '../chaos/checker/history.js';
import { random, type Random } from './random.js';
import type { Scenario } from './scenario.js';
import { World, type Choose } from './world.js';

export interface Finding {
  readonly scenario: Scenario;
  /** What came in which order. */
  readonly trace: readonly string[];
  readonly history: History;
  readonly violations: readonly Violation[];
  readonly seed?: number;
}

export interface Explored {
  readonly schedules: number;
  readonly findings: readonly Finding[];
}

/** Tries every order of the scenario's steps and faults; stops at the first violation. */
export async function exploreAll(scenario: Scenario): Promise<Explored> {
  let path: number[] = [];
  for (let schedules = 1; ; schedules++) {
    const taken: { pick: number; of: number }[] = [];
    const finding = await runOnce(scenario, (actions) => {
      const pick = path[taken.length] ?? 0;
      taken.push({ pick, of: actions.length });
      return pick;
    });
    if (finding.violations.length > 0) return { schedules, findings: [finding] };
    while (taken.length > 0 && taken.at(-1)!.pick === taken.at(-1)!.of - 1) taken.pop();
    const last = taken.at(-1);
    if (!last) return { schedules, findings: [] };
    path = taken.map(({ pick }) => pick);
    path[path.length - 1] = last.pick + 1;
  }
}

/** Tries `count` schedules, each from a seed of its own: `first`, `first + 1` … The same seed is the same schedule. */
export async function exploreRandom(
  count: number,
  first: number,
  scenarioOf: (random: Random) => Scenario,
): Promise<Explored> {
  for (let seed = first; seed < first + count; seed++) {
    const finding = await runSeed(seed, scenarioOf);
    if (finding.violations.length > 0) return { schedules: seed - first + 1, findings: [finding] };
  }
  return { schedules: count, findings: [] };
}

export async function runSeed(seed: number, scenarioOf: (random: Random) => Scenario): Promise<Finding> {
  const next = random(seed);
  const scenario = scenarioOf(next);
  return { ...(await runOnce(scenario, (actions) => pickByWeight(actions, next))), seed };
}

/** Faults are the exception: a schedule of nothing but faults says little. */
function pickByWeight(actions: Parameters<Choose>[0], next: Random): number {
  const weights = actions.map(({ name }) => (/^(kill|cut|resend|jump|tick|purge|lose) /.test(name) ? 0.15 : 1));
  let left = next() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let i = 0; i < weights.length; i++) if ((left -= weights[i]!) < 0) return i;
  return actions.length - 1;
}

async function runOnce(scenario: Scenario, choose: Choose): Promise<Finding> {
  const world = new World(scenario, choose);
  const history = await world.run();
  return { scenario, trace: world.trace, history, violations: check(history) };
}

/** A finding for people: what came in which order, and what was wrong with it. */
export function describeFinding({ scenario, trace, violations, seed, history }: Finding): string {
  return [
    `${scenario.name} (${scenario.mode})${seed === undefined ? '' : `, SEED=${seed}`}`,
    ...violations.map(({ invariant, what }) => `  ${invariant}: ${what}`),
    ...trace.map((step, i) => `  ${String(i + 1).padStart(3)} ${step}`),
    ...history.events.map((event) => `  ${JSON.stringify(event)}`),
  ].join('\n');
}
