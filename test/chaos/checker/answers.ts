import { createHmac } from 'node:crypto';
import type { Answer, RequestEvent } from './history.js';
import type { KeyHistory } from './key-history.js';

type Answered = Extract<Answer, { kind: 'answered' }>;

/** The mark that an answer bears: nobody else's answer has it. */
export function markOf(secret: string, subject: string, payload: string): string {
  return createHmac('sha256', secret)
    .update(JSON.stringify([subject, payload]))
    .digest('base64url')
    .slice(0, 22);
}

/** I3: one run's answer is the same for everybody; two runs have none between them within a retention. */
export function checkAnswersAgree(key: KeyHistory): void {
  const runs = new Map<number, Answered>();
  for (const { answer } of key.requests) {
    if (answer.kind !== 'answered') continue;
    const first = runs.get(answer.run);
    if (!first) runs.set(answer.run, answer);
    else if (first.status !== answer.status || first.digest !== answer.digest) {
      key.fail('I3', `run ${answer.run} was answered for in two ways`);
    }
  }
  const order = [...runs.keys()].sort((a, b) => a - b);
  order.slice(1).forEach((run, i) => {
    const [one, two] = [key.claimOf(order[i]!), key.claimOf(run)];
    if (!one || !two || !key.mayFollow(one, two)) key.fail('I3', `runs ${order[i]} and ${run} were both answered for`);
  });
}

/** I4: the mark is that of this key, scope and payload. I7: another payload is refused, and never runs. */
export function checkPayloads(key: KeyHistory): void {
  const { secret } = key.run.settings;
  const decided: { payload: string; run: number; at: number }[] = [];
  for (const { answer, payload, to, op } of key.requests) {
    if (answer.kind !== 'answered') continue;
    const effect = key.effects.find(({ fence }) => fence === answer.run);
    if (secret !== '' && answer.mark !== markOf(secret, key.subject, payload)) {
      key.fail('I4', `request ${op} was given an answer to another request`);
    } else if (effect && effect.payload !== payload) {
      key.fail('I7', `request ${op} was given the answer to another payload`);
    }
    decided.push({ payload, run: answer.run, at: to });
  }
  for (const request of key.requests) {
    const earlier = decided.find(({ payload, at }) => payload !== request.payload && at < request.from);
    if (earlier && !isRefusal(request) && !mayBeForgotten(key, earlier.run, request)) {
      key.fail('I7', `request ${request.op} with another payload was not refused but got ${request.answer.kind}`);
    }
  }
}

function isRefusal({ answer }: RequestEvent): boolean {
  return answer.kind === 'reused' || answer.kind === 'unavailable' || answer.kind === 'lost';
}

function mayBeForgotten(key: KeyHistory, run: number, { to }: RequestEvent): boolean {
  const claim = key.claimOf(run);
  return claim !== undefined && to >= key.earliestEndOf(claim);
}

/** I16: what was answered is in the store until its retention ends, and no longer. */
export function checkRecords(key: KeyHistory): void {
  const { settings, dumpedAt } = key.run;
  if (dumpedAt === undefined) return;
  // One whose retention ends between the two looks is seen by both.
  const kept = key.records.filter(({ state }) => state !== 'over');
  const [record] = kept;
  if (kept.length > 1) key.fail('I16', 'has more than one record');
  for (const { remainingMs = 0 } of key.records) {
    if (remainingMs >= -(2 * settings.purgeMs + settings.graceMs)) continue;
    key.fail('I16', `its record is over for ${-remainingMs} ms and still there`);
  }
  for (const { answer } of key.requests) {
    if (answer.kind !== 'answered') continue;
    const claim = key.claimOf(answer.run);
    if (!claim || key.earliestEndOf(claim) <= dumpedAt + settings.graceMs) continue;
    if (record?.state !== 'completed') {
      return key.fail('I16', `was answered, but its record is ${record?.state ?? 'gone'}`);
    }
    if (record.kept !== false && record.digest !== answer.digest) {
      return key.fail('I16', 'was answered with something else than its record holds');
    }
  }
}
