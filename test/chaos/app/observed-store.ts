import { AsyncLocalStorage } from 'node:async_hooks';
import type { ClaimRef, ClaimResult, IdempotencyStore } from 'nestjs-idempotency';
import type { StoreCallEvent } from '../checker/history.js';
import type { CrashPoints } from './crash-points.js';
import type { Journal } from './journal.js';
import { observedTransactions } from './observed-transactions.js';
import { machineNow } from './settings.js';

/** Which request a store call belongs to. */
export interface RequestId {
  readonly op: string;
  readonly subject: string;
}

export const currentRequest = new AsyncLocalStorage<RequestId>();

const NOBODY: RequestId = { op: '', subject: '' };

/** The store with a journal of what it is asked and what it answers, and with crash points around it. */
export function observedStore(
  store: IdempotencyStore,
  server: string,
  journal: Journal,
  points: CrashPoints,
): IdempotencyStore {
  const owners = new Map<string, RequestId>();

  const begin = (method: StoreCallEvent['method'], token: string): ((rest: Partial<StoreCallEvent>) => void) => {
    const owner = owners.get(token) ?? currentRequest.getStore() ?? NOBODY;
    if (method === 'claim') owners.set(token, owner);
    return journal.begin<StoreCallEvent>({ type: 'store', method, ...owner, server, token, from: machineNow() });
  };
  const watch = async <T>(
    method: StoreCallEvent['method'],
    { claimToken: token }: ClaimRef,
    call: () => Promise<T>,
    facts: (result: T) => Partial<StoreCallEvent>,
  ): Promise<T> => {
    const end = begin(method, token);
    try {
      const result = await call();
      end({ to: machineNow(), ...facts(result) });
      return result;
    } catch (error) {
      end({ to: machineNow(), got: 'error' });
      throw error;
    }
  };
  const said = (result: unknown): Partial<StoreCallEvent> => ({ got: String(result) });

  const own: Partial<IdempotencyStore> = {
    async claim(request) {
      points.at('before-claim');
      await points.maybeCutReply('claim');
      const result = await watch('claim', request, () => store.claim(request), claimFacts);
      if (result.kind === 'claimed') points.at('after-claim');
      return result;
    },
    renew: (claim, leaseMs) => watch('renew', claim, () => store.renew(claim, leaseMs), said),
    async complete(claim, answer, retentionMs) {
      points.at('before-complete');
      await points.maybeCutReply('complete');
      const result = await watch('complete', claim, () => store.complete(claim, answer, retentionMs), said);
      points.at('after-complete');
      return result;
    },
    release: (claim, options) => watch('release', claim, () => store.release(claim, options), said),
    abandon: (claim, options) => watch('abandon', claim, () => store.abandon(claim, options), said),
    async purge(limit) {
      const from = machineNow();
      const removed = await store.purge(limit);
      if (removed > 0) journal.write({ type: 'purge', from, to: machineNow(), removed });
      return removed;
    },
    ...(store.transactions && { transactions: observedTransactions(store.transactions, begin, points) }),
  };
  return new Proxy(store, {
    get(target, name) {
      if (name in own) return own[name as keyof IdempotencyStore];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

function claimFacts(result: ClaimResult): Partial<StoreCallEvent> {
  if (result.kind !== 'claimed') return { got: result.kind };
  const { fencingToken: fence, attempt, tookOver } = result.claim;
  return { got: 'claimed', fence, attempt, tookOver };
}
