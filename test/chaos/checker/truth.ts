import type { Answer, RequestEvent } from './history.js';

/** A state of the record, as far as clients can tell. */
export interface State {
  readonly kind: 'absent' | 'running' | 'abandoned' | 'completed';
  /** Of all but absent ones. */
  readonly payload: string;
  /** Of running and abandoned ones: the request whose run it is. */
  readonly op: number;
  /** Of running and abandoned ones: what a claim that is given back leaves. */
  readonly prior: 'absent' | 'abandoned';
  /** Of completed ones; empty: by a run of whose answer no client has heard yet. */
  readonly digest: string;
}

export function isTrue(answer: Answer, op: number, payload: string, state: State, hasClaimed: boolean): boolean {
  switch (answer.kind) {
    case 'answered':
      return (
        answer.replayed && state.kind === 'completed' && state.digest === answer.digest && state.payload === payload
      );
    case 'not_kept':
      return state.kind === 'completed' && state.payload === payload;
    case 'reused':
      return state.kind !== 'absent' && state.payload !== payload;
    case 'in_progress':
      return state.kind === 'running' && state.op !== op;
    case 'unknown':
      // Its own run may be the one that nobody knows of.
      return (state.kind === 'abandoned' && state.payload === payload) || hasClaimed;
    case 'unsent':
      return hasClaimed;
    case 'failed':
    case 'unwritten':
      // It ran. Its release may still follow: an error answer contradicts nothing.
      return hasClaimed;
    default:
      return false;
  }
}

export function isUnheard({ kind }: Answer): boolean {
  return kind === 'lost' || kind === 'unavailable';
}

export function needsTruth({ kind }: Answer): boolean {
  return kind !== 'lost' && kind !== 'unavailable' && kind !== 'odd';
}

/** Whether the run of a request can have been recorded, given what its client was told. */
export function mayComplete({ answer, from, to }: RequestEvent, leaseMs: number): boolean {
  // Its write was heard and its reply was not, and the run took its claim for lost: by the clock, or by
  // the first renewal, which finds a completed record.
  const tookItselfForLost = to - from >= leaseMs / 3;
  switch (answer.kind) {
    case 'lost':
    case 'odd':
    case 'unsent':
      return true;
    case 'answered':
      return !answer.replayed || tookItselfForLost;
    case 'not_kept':
    case 'unknown':
      return tookItselfForLost;
    default:
      return false;
  }
}

export function mayRelease(answer: Answer): boolean {
  if (answer.kind === 'unavailable' || answer.kind === 'unsent') return false;
  return answer.kind !== 'answered' || answer.replayed;
}
