import { createHash, randomUUID } from 'node:crypto';
import { withDeadline } from '../../core/deadline.js';
import type { PgClient } from './postgres-driver.js';
import { shared, type Statement } from './postgres.sql.js';

/** How soon after a write other processes are told: one statement tells of all writes of that time. */
const GATHER_MS = 10;
/** More keys than this are not held back for a server that does not answer; their waiters ask by themselves. */
const MOST_PENDING = 10_000;
const FIRST_RETRY_MS = 200;
const LONGEST_RETRY_MS = 30_000;
const HEARTBEAT_MS = 15_000;

/** Prepared by name: parsed and planned each time it costs the server twice as much. */
const NOTIFY: Statement = {
  ...shared('notify', 'SELECT count(pg_notify($1::text, p)) FROM unnest($2::text[]) AS p'),
  // Sent again it would only wake everybody twice.
  repeatable: false,
};

export interface WakeHintsOptions {
  /** `false`: subscribers of this process only. */
  readonly acrossProcesses: boolean;
  /** The table, in any spelling that all its processes share. */
  readonly table: () => string;
  readonly send: (statement: Statement, values: readonly unknown[]) => Promise<unknown>;
  /** A connection of its own for LISTEN. */
  readonly connect: () => PgClient;
  /** After so long without an answer a connection counts as dead. */
  readonly patienceMs: number;
}

/**
 * Tells subscribers, here and in other processes, that something happened to a record, by
 * LISTEN/NOTIFY. Only a hint: nothing is lost when it does not work, because waiters ask from time to
 * time anyway; so every failure in here is silent.
 *
 * NOTIFY stays out of the statements that write records: at commit it takes a lock that the whole
 * database shares, and it is not allowed to make a claim slow or fail.
 */
export class WakeHints {
  private readonly subscribers = new Map<string, Set<() => void>>();
  private readonly pending = new Set<string>();
  private gathering: NodeJS.Timeout | undefined;
  private sending: Promise<unknown> | undefined;
  private listener: PgClient | undefined;
  private probed: { readonly probe: string; readonly resolve: () => void } | undefined;
  private timer: NodeJS.Timeout | undefined;
  private retryMs = FIRST_RETRY_MS;
  private state: 'idle' | 'listening' | 'useless' | 'stopped' = 'idle';

  constructor(private readonly options: WakeHintsOptions) {}

  subscribe(recordKey: string, wake: () => void): () => void {
    const own = (): void => wake(); // its own object, so that one function may be subscribed twice
    const subscribers = this.subscribers.get(recordKey) ?? new Set();
    this.subscribers.set(recordKey, subscribers.add(own));
    if (this.state === 'idle' && this.options.acrossProcesses) {
      this.state = 'listening';
      void this.listen();
    }
    return () => {
      subscribers.delete(own);
      if (subscribers.size === 0 && this.subscribers.get(recordKey) === subscribers) this.subscribers.delete(recordKey);
    };
  }

  /** To be called after a record was completed, released, abandoned or forgotten. */
  changed(recordKey: string): void {
    if (this.state === 'stopped') return;
    this.wake(recordKey);
    if (!this.options.acrossProcesses) return;
    if (this.pending.size < MOST_PENDING) this.pending.add(recordKey);
    this.gathering ??= setTimeout(() => void this.flush(), GATHER_MS).unref();
  }

  async stop(): Promise<void> {
    this.state = 'stopped';
    clearTimeout(this.gathering);
    clearTimeout(this.timer);
    const listener = this.listener;
    this.listener = undefined;
    if (listener) hangUp(listener);
    // What this process did last is what waiters elsewhere wait for when it shuts down.
    await this.sending;
    await this.flush();
    this.subscribers.clear();
  }

  /** Hashed, because a channel's name may have 63 bytes, as many as a table's. */
  private channel(): string {
    return `idempotency_${createHash('sha256').update(this.options.table()).digest('hex').slice(0, 40)}`;
  }

  private wake(recordKey: string): void {
    const subscribers = this.subscribers.get(recordKey);
    for (const own of subscribers ?? []) {
      queueMicrotask(() => {
        if (subscribers?.has(own)) own();
      });
    }
  }

  private wakeAll(): void {
    for (const recordKey of this.subscribers.keys()) this.wake(recordKey);
  }

  /** One at a time, so that hints never take more than one of the store's connections. */
  private async flush(): Promise<void> {
    this.gathering = undefined;
    if (this.sending || this.pending.size === 0) return;
    const keys = [...this.pending];
    this.pending.clear();
    this.sending = this.options.send(NOTIFY, [this.channel(), keys]).catch(() => undefined);
    await this.sending;
    this.sending = undefined;
    if (this.pending.size > 0 && this.state !== 'stopped') {
      this.gathering ??= setTimeout(() => void this.flush(), GATHER_MS).unref();
    }
  }

  private async listen(): Promise<void> {
    let client: PgClient | undefined;
    try {
      const channel = this.channel();
      client = this.options.connect();
      this.attach(client);
      this.listener = client;
      await client.connect();
      client.unref?.();
      await this.ask(client, `LISTEN ${channel}`);
      if (!(await this.isHeard(client, channel))) return;
      this.retryMs = FIRST_RETRY_MS;
      this.beat(client);
      // What happened before somebody listened was told to nobody.
      this.wakeAll();
    } catch {
      this.lost(client);
    }
  }

  /**
   * Behind a pooler in transaction mode LISTEN succeeds and nothing is ever heard: the listening
   * connection of the server goes to somebody else. So the first thing to listen for is a message to
   * itself, by way of the store's other connections. If it does not come, hints are given up for good.
   */
  private async isHeard(client: PgClient, channel: string): Promise<boolean> {
    const probe = `probe:${randomUUID()}`;
    const heard = new Promise<void>((resolve) => (this.probed = { probe, resolve }));
    await this.options.send(NOTIFY, [channel, [probe]]);
    const isHeard = await withDeadline(heard, this.options.patienceMs, 'a notification').then(
      () => true,
      () => false,
    );
    // The connection may have been lost, or the store stopped, in the meantime.
    if (this.listener !== client) return false;
    if (isHeard) return true;
    this.state = 'useless';
    this.listener = undefined;
    await this.ask(client, `UNLISTEN ${channel}`).catch(() => undefined);
    hangUp(client);
    return false;
  }

  private attach(client: PgClient): void {
    client.on('notification', ({ payload }: { readonly payload?: string }) => {
      if (payload === this.probed?.probe) this.probed?.resolve();
      else if (payload !== undefined) this.wake(payload);
    });
    client.on('error', () => this.lost(client));
    client.on('end', () => this.lost(client));
  }

  /** Finds out that the connection has died without a word, which a listener would never notice. */
  private beat(client: PgClient): void {
    this.timer = setTimeout(() => {
      this.ask(client, 'SELECT 1').then(
        () => this.listener === client && this.beat(client),
        () => this.lost(client),
      );
    }, HEARTBEAT_MS).unref();
  }

  private async ask(client: PgClient, text: string): Promise<void> {
    await client.query({ text, query_timeout: this.options.patienceMs });
  }

  private lost(client: PgClient | undefined): void {
    if (client) {
      if (this.listener !== client) return;
      this.listener = undefined;
      hangUp(client);
    }
    if (this.state !== 'listening') return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.listen(), this.retryMs).unref();
    this.retryMs = Math.min(this.retryMs * 2, LONGEST_RETRY_MS);
  }
}

function hangUp(client: PgClient): void {
  client.end().catch(() => undefined);
  client.connection?.stream?.destroy?.();
}
