import { Inject, Injectable, Logger } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { Engine } from '../core/engine.js';
import { IdempotencyConfigError, IdempotencyStoreError } from '../core/errors.js';
import { Purger } from '../core/purger.js';
import type { IdempotencyStore, IdempotencyStoreFactory, StoreContainer } from '../core/store.js';
import type { ModuleSettings } from './resolve-options.js';
import { RouteTable } from './route-table.js';
import { IDEMPOTENCY_SETTINGS } from './tokens.js';

/** Enough for runs that listen to their signal to end and be settled. */
const SETTLE_MS = 1_000;

interface Started {
  readonly store: IdempotencyStore;
  readonly engine: Engine;
  readonly purger: Purger | undefined;
}

/** Makes the store when the application's providers are there, and lives and ends with the application. */
@Injectable()
export class EngineHost implements OnModuleInit, BeforeApplicationShutdown, OnApplicationShutdown {
  private readonly logger = new Logger('Idempotency');
  private starting: Promise<Started> | undefined;
  private started: Started | undefined;

  constructor(
    @Inject(IDEMPOTENCY_SETTINGS) private readonly settings: ModuleSettings,
    @Inject(ModuleRef) private readonly moduleRef: ModuleRef,
    @Inject(RouteTable) private readonly routes: RouteTable,
  ) {}

  async onModuleInit(): Promise<void> {
    try {
      await this.ready();
    } catch (error) {
      if (!this.settings.lazy || !isStoreAway(error)) throw error;
      this.logger.warn(`The store is not there yet; requests get 503 until it is. ${error.message}`);
    }
  }

  /**
   * Running operations end and are recorded before connections close; the leases are renewed all the
   * while. First when the shutdown begins, so that handlers still have the application's database, and
   * before Nest waits for all connections to end: one that streams would not end by itself.
   */
  async beforeApplicationShutdown(): Promise<void> {
    const { started } = this;
    if (!started) return;
    await started.engine.drain(this.settings.shutdownTimeoutMs);
    await this.interrupt(started);
  }

  async onApplicationShutdown(): Promise<void> {
    const { started } = this;
    if (!started) return;
    await started.engine.drain(this.settings.shutdownTimeoutMs);
    await this.interrupt(started);
    if (started.engine.runningCount > 0) {
      this.logger.warn(
        `${started.engine.runningCount} operation(s) still run after shutdownTimeout; their outcome will not be recorded.`,
      );
    }
    await started.purger?.stop();
    await started.store.stop?.();
  }

  /** What still streams is marked interrupted now, so that its followers need not wait for the lease. */
  private async interrupt({ engine }: Started): Promise<void> {
    engine.interrupt(new Error('The application shuts down.'));
    await engine.drain(SETTLE_MS);
  }

  async engine(): Promise<Engine> {
    return (this.started ?? (await this.ready())).engine;
  }

  async store(): Promise<IdempotencyStore> {
    return (this.started ?? (await this.ready())).store;
  }

  /** One attempt at a time; one that failed is not remembered, so that the next caller tries again. */
  private ready(): Promise<Started> {
    this.starting ??= this.start().finally(() => (this.starting = undefined));
    return this.starting;
  }

  private async start(): Promise<Started> {
    const store = await this.createStore();
    this.checkNeeds(store);
    try {
      await store.start?.();
    } catch (error) {
      await store.stop?.();
      // At boot the message is for the operator; a request in between is told that the store is away.
      if (this.isBooted) {
        if (!isStoreAway(error)) this.logger.error(error);
        throw new IdempotencyStoreError('The store could not be started.', { cause: error });
      }
      throw error;
    } finally {
      this.isBooted = true;
    }
    const { purge, replayCache, maxDetachedStreams } = this.settings;
    const purger = purge
      ? new Purger(store, purge.everyMs, purge.batch, (error) => this.logger.warn(`Purge failed: ${String(error)}`))
      : undefined;
    purger?.start();
    const engine = new Engine(store, replayCache, maxDetachedStreams, this.container);
    this.started = { store, engine, purger };
    return this.started;
  }

  private isBooted = false;

  /** All providers of the application, whichever module has them. */
  private readonly container: StoreContainer = {
    get: <T>(token: unknown): T => this.moduleRef.get<T>(token as never, { strict: false }),
  };

  private checkNeeds(store: IdempotencyStore): void {
    const { transactions, events } = this.routes.needs;
    if (transactions !== undefined && !store.transactions) {
      throw new IdempotencyConfigError(
        `${transactions}: transaction: true needs a store that shares a transaction with the handler's writes: typeormStore(). The store '${store.name}' cannot.`,
      );
    }
    if (events !== undefined && !store.events) {
      throw new IdempotencyConfigError(
        `${events}: server-sent events need a store that keeps an event log. The store '${store.name}' does not; write @Idempotent(false) on the handler, or use another store.`,
      );
    }
  }

  private async createStore(): Promise<IdempotencyStore> {
    const { store } = this.settings.options;
    if (!('createStore' in store)) return store;
    return (store as IdempotencyStoreFactory).createStore(this.container);
  }
}

/** By its code, not its class: the store may come from the other build of this package. */
function isStoreAway(error: unknown): error is Error {
  return error instanceof Error && (error as { code?: unknown }).code === 'idempotency_store_unavailable';
}
