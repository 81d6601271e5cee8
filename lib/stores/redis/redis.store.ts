import { randomUUID } from 'node:crypto';
import { withDeadline } from '../../core/deadline.js';
import { IdempotencyConfigError, IdempotencyStoreError } from '../../core/errors.js';
import type { ClaimRef, RecordedAnswer, RecordView } from '../../core/record.js';
import type {
  AbandonOptions,
  ClaimRequest,
  ClaimResult,
  IdempotencyStore,
  RenewResult,
  Resolution,
  WriteResult,
} from '../../core/store.js';
import { isNoScript, storeError } from './redis.errors.js';
import { Hints } from './redis.hints.js';
import { linkTo, type RedisLink, type Send } from './redis.link.js';
import { RedisEventLog, RedisStepLog, type RunScript } from './redis.logs.js';
import { readOptions, type RedisStoreOptions, type RedisStoreSettings } from './redis.options.js';
import { claimOnReplicas } from './redis.replicas.js';
import { answerArguments, readClaim, readFlag, readRenewal, readView, readWrite } from './redis.replies.js';
import type { Script } from './redis.prelude.js';
import { SCRIPTS } from './redis.scripts.js';
import { checkRedis } from './redis.start.js';
import type { RedisArgument } from './redis.client-types.js';

const NOT_KEPT: RecordedAnswer = { kept: false, status: null, reason: 'not_serialisable' };

const DROP_MARGIN_MS = 50;

export class RedisStore implements IdempotencyStore {
  readonly name = 'redis';
  readonly events: RedisEventLog;
  readonly steps: RedisStepLog;
  private readonly settings: RedisStoreSettings;
  private readonly link: RedisLink;
  private readonly hints: Hints;
  private readonly channel: string;

  constructor(options: RedisStoreOptions) {
    this.settings = readOptions(options);
    this.link = linkTo(options.client, 'client');
    this.channel = `${this.settings.prefix}settled`;
    if (this.settings.minReplicas > 0 && this.link.noSession !== undefined) {
      throw new IdempotencyConfigError(
        `redisStore: minReplicas cannot be kept with this client: ${this.link.noSession}.`,
      );
    }
    const subscriber = options.subscriber === undefined ? undefined : linkTo(options.subscriber, 'subscriber');
    this.hints = new Hints((listener) =>
      subscriber ? subscriber.listenHere(this.channel, listener) : this.link.listen(this.channel, listener),
    );
    const run: RunScript = (name, recordKey, args, read) => this.write(name, recordKey, args, read);
    this.events = new RedisEventLog(run, this.channel, (recordKey) => this.hints.wake(recordKey));
    this.steps = new RedisStepLog(run);
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    if (this.settings.minReplicas === 0) {
      return readClaimOf(await this.run('claim', request.recordKey, claimArguments(request)), request, this.link);
    }
    return this.claimWithReplicas(request);
  }

  async renew(claim: ClaimRef, leaseMs: number): Promise<RenewResult> {
    return this.write('renew', claim.recordKey, [claim.claimToken, String(leaseMs)], readRenewal);
  }

  async complete(claim: ClaimRef, answer: RecordedAnswer, retentionMs: number): Promise<WriteResult> {
    return this.settle('complete', claim, [String(retentionMs), ...answerArguments(answer)]);
  }

  async release(claim: ClaimRef, options: { readonly began: boolean }): Promise<WriteResult> {
    return this.settle('release', claim, [options.began ? '1' : '0']);
  }

  async abandon(claim: ClaimRef, { began, keep }: AbandonOptions): Promise<WriteResult> {
    return this.settle('abandon', claim, [began ? '1' : '0', keep ? '1' : '0']);
  }

  async find(recordKey: string): Promise<RecordView | undefined> {
    return this.write('find', recordKey, [], (reply) => (reply === null ? undefined : readView(reply, recordKey)));
  }

  async resolve(recordKey: string, resolution: Resolution, retentionMs: number): Promise<boolean> {
    const answer = resolution.kind === 'completed' ? resolution.answer : NOT_KEPT;
    const rest = [resolution.kind, String(retentionMs), ...answerArguments(answer)];
    const done = await this.write('resolve', recordKey, [this.channel, recordKey, ...rest], readFlag);
    if (done) this.hints.wake(recordKey);
    return done;
  }

  async forget(recordKey: string): Promise<boolean> {
    const done = await this.write('forget', recordKey, [this.channel, recordKey], readFlag);
    if (done) this.hints.wake(recordKey);
    return done;
  }

  async requestCancel(recordKey: string): Promise<boolean> {
    return this.write('requestCancel', recordKey, [], readFlag);
  }

  /** Always 0: Redis removes a record by itself when its retention is over. */
  purge(_limit: number): Promise<number> {
    return Promise.resolve(0);
  }

  subscribe(recordKey: string, wake: () => void): () => void {
    return this.hints.subscribe(recordKey, wake);
  }

  start(): Promise<void> {
    return checkRedis(this, this.link, this.settings, (recordKey) => this.keyOf(recordKey));
  }

  stop(): Promise<void> {
    this.hints.stop();
    return Promise.resolve();
  }

  private keyOf(recordKey: string): string {
    return `${this.settings.prefix}{${recordKey}}`;
  }

  private async settle(
    name: 'complete' | 'release' | 'abandon',
    claim: ClaimRef,
    rest: RedisArgument[],
  ): Promise<WriteResult> {
    const args = [this.channel, claim.recordKey, claim.claimToken, ...rest];
    const said = await this.write(name, claim.recordKey, args, readWrite);
    if (said === 'written') this.hints.wake(claim.recordKey);
    return said;
  }

  private async write<T>(
    name: keyof typeof SCRIPTS,
    recordKey: string,
    args: RedisArgument[],
    read: (reply: unknown) => T,
  ): Promise<T> {
    const reply = await this.run(name, recordKey, args);
    try {
      return read(reply);
    } catch (error) {
      throw storeError(this.link.endpoint, error);
    }
  }

  private run(name: keyof typeof SCRIPTS, recordKey: string, args: RedisArgument[]): Promise<unknown> {
    const key = this.keyOf(recordKey);
    // Dropped by the client only after the deadline, whose message says more.
    const send: Send = (command) => this.link.send(key, command, this.settings.deadlineMs + DROP_MARGIN_MS);
    return this.within(name, (inTime) =>
      runScript(send, SCRIPTS[name], key, args, name === 'claim' ? inTime : undefined),
    );
  }

  /** Gives a call its end, whatever the client's queues, retries and time-outs would make of it. */
  private async within<T>(name: string, work: (inTime: () => boolean) => Promise<T>): Promise<T> {
    const { deadlineMs } = this.settings;
    const end = performance.now() + deadlineMs;
    const endpoint = this.link.endpoint;
    try {
      return await withDeadline(
        work(() => performance.now() < end),
        deadlineMs,
        `Redis (${endpoint}): ${name}`,
      );
    } catch (error) {
      throw storeError(endpoint, error);
    }
  }

  private async claimWithReplicas(request: ClaimRequest): Promise<ClaimResult> {
    const key = this.keyOf(request.recordKey);
    const { reply, missing } = await this.within('claim', (inTime) =>
      claimOnReplicas(this.link, key, this.settings, (send) =>
        runScript(send, SCRIPTS.claim, key, claimArguments(request), inTime),
      ),
    );
    const result = readClaimOf(reply, request, this.link);
    if (missing === undefined) return result;
    // The operation does not run, so the claim goes as if it had never been. Where that fails too,
    // the lease ends it.
    await this.release(request, { began: false }).catch(() => undefined);
    throw new IdempotencyStoreError(`Redis (${this.link.endpoint}): ${missing}`);
  }
}

function readClaimOf(reply: unknown, request: ClaimRequest, link: RedisLink): ClaimResult {
  try {
    return readClaim(reply, request);
  } catch (error) {
    throw storeError(link.endpoint, error);
  }
}

function claimArguments(request: ClaimRequest): RedisArgument[] {
  return [
    request.operation,
    request.fingerprint,
    request.claimToken,
    String(request.leaseMs),
    String(request.retentionMs),
    request.keepAbandoned ? '1' : '0',
    request.takeOver === 'unless_kept' ? 'unless_kept' : request.takeOver ? '1' : '0',
    randomUUID(),
  ];
}

/**
 * By its name first, and by its text where the server does not have it (a restart, a failover,
 * SCRIPT FLUSH). `worthIt` says whether the second try may still be made: a claim that nobody waits
 * for any more must not be won then, all others do no harm late.
 */
async function runScript(
  send: Send,
  script: Script,
  key: string,
  args: RedisArgument[],
  worthIt?: () => boolean,
): Promise<unknown> {
  try {
    return await send(['EVALSHA', script.sha, '1', key, ...args]);
  } catch (error) {
    if (!isNoScript(error) || (worthIt && !worthIt())) throw error;
    return send(['EVAL', script.source, '1', key, ...args]);
  }
}
