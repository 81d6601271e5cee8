import type { HintListener } from './redis.link.js';

/** How long after a failed attempt the next subscription may make another. */
const RETRY_AFTER_MS = 1_000;

type Listen = (listener: HintListener) => Promise<() => void>;

/**
 * Who waits for which record, and the one connection that hears of it. Hints only hurry the waiters
 * up, so nothing here ever fails towards them: without a connection they poll, and what this
 * process settles itself wakes them anyway.
 */
export class Hints {
  private readonly waiting = new Map<string, Set<() => void>>();
  private connection: { close?: () => void } | undefined;
  private triedAt = -Infinity;
  private stopped = false;

  constructor(private readonly listen: Listen) {}

  subscribe(recordKey: string, wake: () => void): () => void {
    // A function of its own each time: the same `wake` may be subscribed twice.
    const waiter = (): void => wake();
    const waiters = this.waiting.get(recordKey) ?? new Set();
    waiters.add(waiter);
    this.waiting.set(recordKey, waiters);
    this.connect();
    return () => {
      waiters.delete(waiter);
      if (waiters.size === 0 && this.waiting.get(recordKey) === waiters) this.waiting.delete(recordKey);
    };
  }

  wake(recordKey: string): void {
    for (const waiter of this.waiting.get(recordKey) ?? []) run(waiter);
  }

  stop(): void {
    this.stopped = true;
    this.waiting.clear();
    this.connection?.close?.();
    this.connection = undefined;
  }

  private connect(): void {
    const now = performance.now();
    if (this.stopped || this.connection || now - this.triedAt < RETRY_AFTER_MS) return;
    this.triedAt = now;
    const connection: { close?: () => void } = {};
    this.connection = connection;
    const giveUp = (): void => {
      if (this.connection === connection) this.connection = undefined;
    };
    this.listen({
      onMessage: (recordKey) => this.wake(recordKey),
      onReconnect: () => {
        for (const recordKey of [...this.waiting.keys()]) this.wake(recordKey);
      },
      onEnd: giveUp,
    }).then((close) => {
      if (this.stopped || this.connection !== connection) close();
      else connection.close = close;
    }, giveUp);
  }
}

/** A waiter's own failure is no reason not to wake the next one. */
function run(waiter: () => void): void {
  try {
    waiter();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
