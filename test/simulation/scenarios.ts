import { oneOf, whole, type Random } from './random.js';
import { NO_FAULTS, type Request, type Scenario } from './scenario.js';

const LEASE_MS = 1_000;
/** Longer than any schedule. */
const LONG_MS = 1_000_000;

const first: Request = { name: 'A', process: 1, scope: 'acme', key: 'k1', payload: 'p' };
const second: Request = { ...first, name: 'B', process: 2 };

/**
 * Two requests of one key, and what may go wrong in one schedule. Two faults in one schedule are for
 * the random ones: here they would be millions.
 */
export function pairs(mode: 'block' | 'rerun'): Scenario[] {
  const base = { mode, leaseMs: LEASE_MS, retentionMs: LONG_MS } as const;
  const pair = (name: string, requests: readonly Request[], faults: Partial<Scenario['faults']>): Scenario => ({
    ...base,
    name,
    requests,
    faults: { ...NO_FAULTS, ...faults },
  });
  const both = [first, second];
  return [
    pair('two requests, a process dies', both, { kill: 1 }),
    pair('two requests, a caller hears of a failure', both, { cut: 1 }),
    pair('two requests, a driver sends again', both, { resend: 1 }),
    { ...pair('two requests, all stand still for a lease', both, { jump: 1 }), instantEffects: mode === 'rerun' },
    // Twenty thousand schedules each, and what differs between the modes is not in them.
    mode === 'block'
      ? pair('two requests, timers in between', both, { tick: 1 })
      : pair('a joining request, a process dies', [first, { ...second, inFlight: 'join' }], { kill: 1 }),
    pair('another payload, a caller hears of a failure', [first, { ...second, payload: 'q' }], { cut: 1 }),
    pair('a handler that fails first, a process dies', [{ ...first, handler: 'fails once' }, second], { kill: 1 }),
    pair('an answer that is not kept, a caller hears of a failure', [{ ...first, handler: 'is not kept' }, second], {
      cut: 1,
    }),
  ];
}

/** Three to five requests, mostly of one key, with whatever can happen. */
export function anything(random: Random): Scenario {
  const chance = (p: number): boolean => random() < p;
  const requests = Array.from({ length: 3 + whole(random, 3) }, (_, i): Request => ({
    name: String.fromCharCode(65 + i),
    process: 1 + whole(random, 3),
    scope: chance(0.9) ? 'acme' : 'globex',
    key: chance(0.9) ? 'k1' : 'k2',
    payload: chance(0.85) ? 'p' : 'q',
    inFlight: chance(0.3) ? 'join' : 'reject',
    handler: oneOf(random, ['records', 'records', 'records', 'fails once', 'is not kept', 'is slow']),
    retries: whole(random, 3),
  }));
  return {
    name: 'anything',
    mode: chance(0.5) ? 'block' : 'rerun',
    leaseMs: LEASE_MS,
    retentionMs: chance(0.85) ? LONG_MS : 2_500,
    replayCache: chance(0.5),
    requests,
    faults: {
      kill: whole(random, 3),
      cut: whole(random, 4),
      resend: whole(random, 3),
      jump: whole(random, 3),
      tick: whole(random, 6),
      purge: whole(random, 3),
    },
  };
}
