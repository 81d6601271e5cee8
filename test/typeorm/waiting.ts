import { setTimeout as sleep } from 'node:timers/promises';

/** Asks until it holds; fails after `ms`. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`After ${ms} ms still not: ${what}`);
    await sleep(10);
  }
}

/** How long a call took, and what came of it. */
export async function timed<T>(
  call: () => Promise<T>,
): Promise<{ readonly ms: number; readonly value?: T; readonly error?: unknown }> {
  const start = performance.now();
  try {
    return { value: await call(), ms: performance.now() - start };
  } catch (error) {
    return { error, ms: performance.now() - start };
  }
}
