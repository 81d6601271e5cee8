import { monotonicNow, pause } from './clock.js';
import { IdempotencyClaimLostError, IdempotencyStepError } from './errors.js';
import type { ActiveRun } from './active-run.js';
import { currentScope, runWithin } from './run-scope.js';
import type { StepLog } from './step-log.js';

/** What a step's function is told. */
export interface StepContext {
  /** The step's name with those of the steps around it: `outer/inner`. */
  readonly name: string;
  /** The key to hand to the provider that this step calls: the same in every attempt. */
  readonly downstreamKey: string;
  /** Aborted when the claim is lost or the run is cancelled. */
  readonly signal: AbortSignal;
}

const LONGEST_NAME = 200;
const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 1_000;

/** The checkpoints of one run: what is finished is recorded, and not done again by a later attempt. */
export class Steps {
  private readonly called = new Set<string>();
  private known: Promise<ReadonlyMap<string, Uint8Array>> | undefined;

  constructor(
    private readonly run: ActiveRun,
    private readonly log: StepLog | undefined,
    private readonly maxBytes: number,
  ) {}

  async step<T>(name: string, fn: (step: StepContext) => T | Promise<T>): Promise<T> {
    const { log, run } = this;
    if (!log) throw new IdempotencyStepError('The store in use keeps no steps.');
    if (run.isOver) throw new IdempotencyStepError(`The step '${name}' was called after the end of its run.`);
    const path = this.pathOf(name);
    const recorded = (await this.load(log)).get(path);
    if (recorded) return valueOf(recorded) as T;
    run.assertLive();
    const step = { name: path, downstreamKey: run.context.downstreamKey(`step:${path}`), signal: run.context.signal };
    const scope = { context: run.context, ...currentScope(), step: { owner: this, path } };
    const value = await runWithin(scope, () => fn(step));
    const result = this.resultOf(path, value);
    await this.save(log, path, result);
    // The same value that a later attempt gets: what JSON cannot hold is noticed now, not after a crash.
    return valueOf(result) as T;
  }

  /** The step of this run that the caller is in. */
  get current(): string | undefined {
    const outer = currentScope()?.step;
    return outer?.owner === this ? outer.path : undefined;
  }

  private pathOf(name: string): string {
    // Half a surrogate pair is no character: two of them would be one name to a store that keeps UTF-8.
    const isName = typeof name === 'string' && name !== '' && !name.includes('/') && !/\p{Surrogate}/u.test(name);
    if (!isName || name.length > LONGEST_NAME) {
      throw new IdempotencyStepError(
        `A step's name must be a text of 1 to ${LONGEST_NAME} characters without slashes.`,
      );
    }
    const outer = this.current;
    const path = outer === undefined ? name : `${outer}/${name}`;
    if (this.called.has(path)) {
      throw new IdempotencyStepError(
        `The step '${path}' was called twice in one run: a later attempt could not tell which result is whose. Number them, e.g. '${name} 2'.`,
      );
    }
    this.called.add(path);
    return path;
  }

  private load(log: StepLog): Promise<ReadonlyMap<string, Uint8Array>> {
    // A first attempt has no steps to find. A read that failed is not remembered.
    this.known ??=
      this.run.claim.attempt === 1
        ? Promise.resolve(new Map<string, Uint8Array>())
        : log.load(this.run.claim).catch((error: unknown) => {
            this.known = undefined;
            throw error;
          });
    return this.known;
  }

  private resultOf(path: string, value: unknown): Uint8Array {
    let text: string | undefined;
    try {
      text = value === undefined ? '' : JSON.stringify(value);
    } catch (cause) {
      throw new IdempotencyStepError(`The result of the step '${path}' cannot be written as JSON.`, {
        cause,
        result: value,
      });
    }
    if (text === undefined)
      throw new IdempotencyStepError(`The result of the step '${path}' cannot be written as JSON.`, { result: value });
    const bytes = Buffer.from(text);
    if (bytes.byteLength > this.maxBytes) {
      throw new IdempotencyStepError(
        `The result of the step '${path}' has ${bytes.byteLength} bytes; maxRecordBytes allows ${this.maxBytes}. Store it elsewhere and give back its name.`,
        { result: value },
      );
    }
    return bytes;
  }

  private async save(log: StepLog, path: string, result: Uint8Array): Promise<void> {
    const { run } = this;
    let wait = FIRST_PAUSE_MS;
    for (;;) {
      const sentAt = monotonicNow();
      try {
        const saved = await log.save(run.claim, path, result, run.leaseMs);
        if (saved === 'lost') break;
        run.leaseRenewed(sentAt, saved);
        return;
      } catch {
        // The store is away; the step is done and paid for, so its result is worth some patience.
      }
      if (!run.mayHoldClaim) break;
      await pause(wait);
      wait = Math.min(wait * 2, LONGEST_PAUSE_MS);
    }
    run.lose('the result of a step could not be recorded under it.');
    throw new IdempotencyClaimLostError(`The claim was lost during the step '${path}'; its result is not recorded.`);
  }
}

function valueOf(result: Uint8Array): unknown {
  if (result.byteLength === 0) return undefined;
  return JSON.parse(Buffer.from(result.buffer, result.byteOffset, result.byteLength).toString('utf8')) as unknown;
}
