import assert from 'node:assert/strict';
import { sleep, type Bench } from './bench.js';

/** How soon a hint must come: far sooner than a waiter would ask again by itself. */
const SOON_MS = 1_500;
/** How long a store over a network is given to listen; `subscribe` itself does not say when it does. */
const LISTENING_MS = 150;

/** A subscription that counts its calls. */
export function listen(b: Bench, recordKey: string): { calls: number; end: () => void; called: Promise<boolean> } {
  let note: (called: boolean) => void = () => {};
  const called = new Promise<boolean>((resolve) => (note = resolve));
  const listener = { calls: 0, called, end: () => {} };
  const end = b.store.subscribe?.(recordKey, () => {
    listener.calls += 1;
    note(true);
  });
  assert.ok(end, 'subscribe returns the end of the subscription');
  return Object.assign(listener, { end });
}

/** Whether a hint came soon enough. */
export async function soon(called: Promise<boolean>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), SOON_MS)));
  const result = await Promise.race([called, late]);
  clearTimeout(timer);
  return result;
}

/** Waits until a subscription is likely to listen. */
export async function settle(b: Bench): Promise<void> {
  await sleep(b.exact ? 5 : LISTENING_MS);
}
