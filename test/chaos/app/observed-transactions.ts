import type { StoreTransaction, StoreTransactions } from 'nestjs-idempotency';
import type { StoreCallEvent } from '../checker/history.js';
import type { CrashPoints } from './crash-points.js';
import { machineNow } from './settings.js';

type End = (rest: Partial<StoreCallEvent>) => void;

/**
 * The store's transactions with a journal and crash points, as `observedStore`. A completion in a
 * transaction is none before the commit is answered: only then does the journal say `written`.
 */
export function observedTransactions(
  transactions: StoreTransactions,
  begin: (method: 'complete', token: string) => End,
  points: CrashPoints,
): StoreTransactions {
  return {
    isAborted: (error) => transactions.isAborted?.(error) === true,
    async run(work) {
      let end: End = () => undefined;
      const observed = (transaction: StoreTransaction): StoreTransaction => ({
        manager: transaction.manager,
        async complete(claim, answer, retentionMs) {
          points.at('before-complete');
          const note = begin('complete', claim.claimToken);
          end = note;
          const result = await transaction.complete(claim, answer, retentionMs);
          if (result === 'lost') {
            note({ to: machineNow(), got: 'lost' });
            end = () => undefined;
            return result;
          }
          const writtenAt = machineNow();
          note({ writtenAt });
          end = (rest) => note({ writtenAt, ...rest });
          points.at('before-commit');
          await points.maybeCutReply('commit');
          return result;
        },
      });
      try {
        const value = await transactions.run((transaction) => work(observed(transaction)));
        end({ to: machineNow(), got: 'written' });
        points.at('after-commit');
        return value;
      } catch (error) {
        end({ to: machineNow(), got: 'error' });
        throw error;
      }
    },
  };
}
