import type { EffectEvent } from './history.js';
import { endsLeases, type KeyHistory } from './key-history.js';

/** I1, I2: how often the world outside was changed. */
export function checkEffects(key: KeyHistory): void {
  let before: EffectEvent | undefined;
  for (const effect of key.effects) {
    const claim = key.claimOf(effect.fence);
    if (!claim) key.fail('I2', `the effect of run ${effect.fence} had no claim`);
    if (before) checkPair(key, before, effect);
    before = effect;
  }
}

function checkPair(key: KeyHistory, first: EffectEvent, second: EffectEvent): void {
  if (first.fence === second.fence) return key.fail('I2', `two effects under one claim (${first.fence})`);
  const [one, two] = [key.claimOf(first.fence), key.claimOf(second.fence)];
  if (!one || !two || key.mayFollow(one, two)) return;
  // A row that is there because of a run which did not complete must not be there at all.
  if (key.run.settings.mode !== 'rerun') {
    return key.fail('I1', `two effects: runs ${first.fence} and ${second.fence}`);
  }
  const between = [...key.won].some(({ fence, tookOver }) => tookOver && fence > first.fence && fence <= second.fence);
  if (!between) {
    key.fail('I2', `run ${second.fence} had an effect after run ${first.fence}, and nobody took over`);
  } else if (!key.run.faultAt(one.server, one.from, two.to, endsLeases)) {
    key.fail('I2', `run ${second.fence} repeated the effect of run ${first.fence}, whose server suffered no fault`);
  }
}

/** I5, I6: an answer stands for an effect, and nothing runs once there is one. */
export function checkAnswersStandForEffects(key: KeyHistory): void {
  const settled = new Map<number, number>();
  let firstNotKept: number | undefined;
  for (const { answer, to } of key.requests) {
    if (answer.kind === 'not_kept' || answer.kind === 'unsent') firstNotKept = Math.min(firstNotKept ?? Infinity, to);
    if (answer.kind !== 'answered') continue;
    const effect = key.effects.find(({ fence }) => fence === answer.run);
    if (!effect || effect.at > to) key.fail('I5', `answered by run ${answer.run}, which had had no effect by then`);
    settled.set(answer.run, Math.min(settled.get(answer.run) ?? Infinity, to));
  }
  for (const effect of key.effects) {
    const claim = key.claimOf(effect.fence);
    if (!claim) continue;
    for (const [run, at] of settled) {
      const by = key.claimOf(run);
      if (claim.from > at && by && !key.mayFollow(by, claim)) {
        key.fail('I6', `run ${effect.fence} began after run ${run} had been answered for`);
      }
    }
    if (firstNotKept !== undefined && claim.from > firstNotKept && claim.to < key.earliestEnd) {
      key.fail('I6', `run ${effect.fence} began after a client was told that it had completed`);
    }
  }
}
