import type { EventLog, StreamBatch, StreamPage, StreamRef } from '../../core/event-log.js';
import type { ClaimRef } from '../../core/record.js';
import type { StepLog } from '../../core/step-log.js';
import type { RenewResult } from '../../core/store.js';
import type { RedisArgument } from './redis.client-types.js';
import { bytesArgument, readPage, readRenewal, readSteps } from './redis.replies.js';

/** Runs one script of the store on one record. */
export type RunScript = <T>(
  name: 'append' | 'read' | 'save' | 'load',
  recordKey: string,
  args: RedisArgument[],
  read: (reply: unknown) => T,
) => Promise<T>;

export class RedisEventLog implements EventLog {
  constructor(
    private readonly run: RunScript,
    private readonly channel: string,
    private readonly wake: (recordKey: string) => void,
  ) {}

  async append(claim: ClaimRef, batch: StreamBatch, leaseMs: number): Promise<RenewResult> {
    const { firstSeq, items, head } = batch;
    const said = await this.run(
      'append',
      claim.recordKey,
      [
        this.channel,
        claim.recordKey,
        claim.claimToken,
        String(leaseMs),
        String(firstSeq),
        head ? String(head.status) : '',
        head ? JSON.stringify(head.headers) : '',
        ...items.map(bytesArgument),
      ],
      readRenewal,
    );
    if (said !== 'lost') this.wake(claim.recordKey);
    return said;
  }

  read(stream: StreamRef, after: number, maxBytes: number): Promise<StreamPage | undefined> {
    // No number that Lua could not read: the page is far smaller anyway.
    const bytes = Math.min(Math.max(0, Math.floor(maxBytes)), Number.MAX_SAFE_INTEGER);
    const args = [stream.recordId, String(stream.attempt), String(after), String(bytes)];
    return this.run('read', stream.recordKey, args, (reply) => (reply === null ? undefined : readPage(reply, after)));
  }
}

export class RedisStepLog implements StepLog {
  constructor(private readonly run: RunScript) {}

  save(claim: ClaimRef, name: string, result: Uint8Array, leaseMs: number): Promise<RenewResult> {
    const args = [claim.claimToken, String(leaseMs), name, bytesArgument(result)];
    return this.run('save', claim.recordKey, args, readRenewal);
  }

  load(claim: ClaimRef): Promise<ReadonlyMap<string, Uint8Array>> {
    return this.run('load', claim.recordKey, [claim.claimToken], readSteps);
  }
}
