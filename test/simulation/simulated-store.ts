import { IdempotencyStoreError } from '../../lib/core/errors.js';
import type { IdempotencyStore } from '../../lib/core/store.js';

/** A call on its way: it arrives at the store in one step, and its reply at the caller in another. */
export class Call {
  arrived = false;
  /** The caller has its answer, or has given up. */
  returned = false;
  /** It will not arrive any more. */
  dropped = false;
  /** There may be two of it on the way. */
  resent = false;
  private result: { value: unknown } | { error: unknown } | undefined;

  constructor(
    readonly process: number,
    readonly name: string,
    private readonly work: () => Promise<unknown>,
    private readonly resolve: (value: unknown) => void,
    private readonly reject: (error: unknown) => void,
  ) {}

  get isEffect(): boolean {
    return this.name.endsWith('effect');
  }

  async arrive(): Promise<void> {
    this.arrived = true;
    try {
      this.result = { value: await this.work() };
    } catch (error) {
      this.result = { error };
    }
  }

  reply(): void {
    this.returned = true;
    if (this.result && 'value' in this.result) this.resolve(this.result.value);
    else this.reject(this.result?.error);
  }

  /** The reply is lost, or the deadline is over; the call itself may still arrive. */
  cut(): void {
    this.returned = true;
    this.reject(new IdempotencyStoreError(`${this.name}: the connection broke.`));
  }

  /** The driver sends it once more, because the reply was lost. */
  resend(): void {
    this.arrived = false;
    this.resent = true;
  }
}

/** What a process sees of the store: every call goes through `send`. */
export function remoteStore(
  store: IdempotencyStore,
  send: (method: string, args: readonly unknown[], work: () => Promise<unknown>) => Promise<unknown>,
  hint: (wake: () => void) => void,
): IdempotencyStore {
  const remote =
    (method: keyof IdempotencyStore) =>
    (...args: unknown[]) =>
      send(method, args, () => (store[method] as (...args: unknown[]) => Promise<unknown>).apply(store, args));
  const methods = ['claim', 'renew', 'complete', 'release', 'abandon', 'find', 'resolve', 'forget', 'purge'] as const;
  return {
    name: 'simulated',
    ...Object.fromEntries(methods.map((method) => [method, remote(method)])),
    subscribe: (recordKey: string, wake: () => void) => store.subscribe!(recordKey, () => hint(wake)),
  } as IdempotencyStore;
}
