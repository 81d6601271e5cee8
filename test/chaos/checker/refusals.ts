import type { RequestEvent, StoreCallEvent } from './history.js';
import { endsLeases, failsCalls, type KeyHistory } from './key-history.js';

/** I9, I12: each refusal has its reason. I10: once all is healed, every key is decided. */
export function checkRefusals(key: KeyHistory): void {
  for (const request of key.requests) {
    const { answer, op, server, from, to } = request;
    switch (answer.kind) {
      case 'in_progress':
        checkInProgress(key, request);
        break;
      case 'unavailable':
      case 'unwritten':
        // On a machine that is out of breath the deadline passes without a fault; that takes as long as it is.
        if (to - from < key.run.settings.deadlineMs && !key.run.faultAt(server, from, to, failsCalls)) {
          key.fail('I9', `request ${op} got ${answer.kind}, and the store was not away`);
        }
        break;
      case 'unknown':
        if (!hasLostRun(key, request))
          key.fail('I9', `request ${op} was told of an unknown outcome, and no run was lost`);
        else if (key.run.settings.mode === 'transaction' && !hasUnansweredCommit(key, op))
          key.fail('I9', `request ${op} was told of an unknown outcome, and its transaction was undone`);
        break;
      case 'odd':
        key.fail('I9', `request ${op} got an answer that nobody should get: ${answer.what}`);
        break;
      default:
    }
    if (request.final) checkFinal(key, request);
  }
  for (const { state } of key.records)
    if (state === 'in_progress') key.fail('I10', 'its record still says in progress');
}

function checkFinal(key: KeyHistory, { answer, op }: RequestEvent): void {
  if (['answered', 'not_kept', 'unsent', 'reused'].includes(answer.kind)) return;
  if (answer.kind === 'unknown' && key.run.settings.mode === 'block') return;
  key.fail('I10', `the last request (${op}) got ${answer.kind}`);
}

function checkInProgress(key: KeyHistory, request: RequestEvent): void {
  let own = false;
  for (const call of key.calls) {
    if (call.method !== 'claim') continue;
    // Its own claim is no stranger's: neither an earlier one that it gave up (the reply came too late) nor
    // the first sending of a call that a driver has sent twice.
    if (call.op === request.op) own ||= mayBeLiveWithin(key, call, request) || mayHaveBeenSentTwice(key, call);
    else if (mayBeLiveWithin(key, call, request)) return;
  }
  if (own) key.fail('I12', `request ${request.op} was refused because of its own claim`);
  else key.fail('I9', `request ${request.op} was told that it runs, and nothing ran`);
}

/** A driver sends a call again when its connection ends before the reply is there. */
function mayHaveBeenSentTwice({ run }: KeyHistory, { server, from, to = Infinity }: StoreCallEvent): boolean {
  return run.faultAt(server, from, to, failsCalls);
}

/** Whether a claim, won or perhaps won, can have been live while the request was under way. */
function mayBeLiveWithin(key: KeyHistory, claim: StoreCallEvent, { from, to }: RequestEvent): boolean {
  const { leaseMs, graceMs } = key.run.settings;
  if (claim.from > to || !mayHaveBeenWon(claim, leaseMs)) return false;
  let end = Math.max(claim.from, claim.to ?? 0) + leaseMs;
  for (const call of key.callsOf(claim.token)) {
    const at = call.to ?? call.from;
    if (call.method === 'renew' && call.got !== 'lost') end = Math.max(end, at + leaseMs);
    if (call.method === 'complete' && call.got === 'written') return call.to! + graceMs >= from;
  }
  // A statement that a frozen store has taken in may be carried out when it thaws.
  if (claim.got !== 'claimed') end += 10 * leaseMs;
  return end + graceMs >= from;
}

/**
 * Whether the store can have given this claim. Also where its answer says no: a driver that sends
 * again after a lost reply may find that its first try was won and has run out.
 */
function mayHaveBeenWon({ got, from, to }: StoreCallEvent, leaseMs: number): boolean {
  if (got === undefined || got === 'claimed' || got === 'error') return true;
  return to !== undefined && to - from >= leaseMs;
}

/** Whether a run of this key ended, before the request did, without its outcome being written, for a reason. */
function hasLostRun(key: KeyHistory, request: RequestEvent): boolean {
  return key.calls.some((claim) => {
    if (claim.method !== 'claim' || claim.from > request.to) return false;
    if (!mayHaveBeenWon(claim, key.run.settings.leaseMs)) return false;
    const calls = key.callsOf(claim.token);
    const settled = calls.find((call) => call.got === 'written' && call.method !== 'renew');
    if (settled && settled.method !== 'abandon' && (settled.to ?? Infinity) < request.from) return false;
    const until = Math.min(request.to, settled?.to ?? Infinity, lastLeaseEnd(key, claim, calls));
    return key.run.faultAt(claim.server, claim.from, until, endsLeases);
  });
}

/** Only a commit that nobody has answered leaves something unknown, and only to the one who sent it. */
function hasUnansweredCommit(key: KeyHistory, op: string): boolean {
  return key.calls.some((call) => call.op === op && call.writtenAt !== undefined && call.got === 'error');
}

/** When the last lease of a claim ended, at the latest. */
function lastLeaseEnd(key: KeyHistory, claim: StoreCallEvent, calls: readonly StoreCallEvent[]): number {
  const { leaseMs } = key.run.settings;
  // A claim of which nobody heard may have been carried out long after it was sent.
  if (claim.got !== 'claimed') return Infinity;
  const renewals = calls.filter((call) => call.method === 'renew' && call.got !== 'lost');
  return Math.max(claim.to ?? claim.from, ...renewals.map((call) => call.to ?? call.from)) + leaseMs;
}

/** I14: a later claim has a greater fencing token. */
export function checkFencing(key: KeyHistory): void {
  const claims = [...key.won].sort((a, b) => a.from - b.from);
  const returned = [...claims].sort((a, b) => a.to - b.to);
  let greatest = -Infinity;
  let next = 0;
  for (const claim of claims) {
    while (next < returned.length && returned[next]!.to < claim.from) {
      greatest = Math.max(greatest, returned[next]!.fence);
      next += 1;
    }
    if (claim.fence <= greatest) key.fail('I14', `a claim got fencing token ${claim.fence} after ${greatest}`);
  }
  const tokens = new Map<number, string>();
  for (const { fence, token } of key.calls) {
    if (fence === undefined) continue;
    if ((tokens.get(fence) ?? token) !== token) key.fail('I14', `two claims got fencing token ${fence}`);
    tokens.set(fence, token);
  }
}
