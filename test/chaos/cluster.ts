import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guard } from '../../sample-app/src/embedded-postgres.ts';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { startProcess, type AppProcess } from './app-process.js';
import { build, type Build, type Edit } from './build.js';
import type { EffectEvent, Event, FaultEvent, Mode } from './checker/history.js';
import { readJournal } from './app/journal.js';
import { machineNow, type AppSettings } from './app/settings.js';
import { startStore, type Preparation, type StoreServer } from './store-server.js';

export interface ClusterOptions {
  readonly store: 'postgres' | 'redis';
  readonly mode: Mode;
  readonly apps: number;
  readonly leaseMs: number;
  readonly deadlineMs: number;
  readonly briefMs: number;
  readonly purgeMs: number;
  readonly secret: string;
  readonly seed: number;
  readonly crash: number;
  readonly cut: number;
  /** The application that each server is, from the project's root; the one with charges by default. */
  readonly entry?: string;
  /** A planted bug. */
  readonly edits?: readonly Edit[];
  /** The store's server where it is another than usual. The cluster stops it. */
  readonly server?: () => Promise<StoreServer>;
  /** How many replicas must have a claim in Redis; 0 by default. */
  readonly minReplicas?: number;
  /** What is done to the store's server before the first application is there. */
  readonly prepare?: Preparation;
}

type End = () => Promise<unknown>;

/** Nothing has happened to the store yet: an application that does not come up now never will. */
const MOST_FIRST_BOOTS = 2;

/** One application server: the same name through all its lives. */
export interface App {
  readonly name: string;
  readonly proxy: TcpProxy;
  /** Undefined while it is down. */
  process: AppProcess | undefined;
  frozen: boolean;
}

/** All processes of a run: the store, the ledger, and the applications with a proxy each before the store. */
export class Cluster {
  readonly faults: FaultEvent[] = [];
  readonly apps: App[] = [];
  private lives = 0;
  private stopping = false;
  private calm = false;
  private outputs = new Map<string, string>();
  /** Starts that are under way; waited for at the end, so that none is left behind. */
  private readonly starting = new Set<Promise<void>>();

  private constructor(
    private readonly options: ClusterOptions,
    readonly directory: string,
    readonly store: StoreServer,
    private readonly ledger: AppProcess,
    private readonly built: Build,
    /** What stops each part, in the order in which they have to go. */
    private readonly ends: readonly End[],
  ) {}

  /** @throws where a part cannot be started; what has been is stopped again */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const directory = await mkdtemp(join(tmpdir(), 'idempotency-chaos-'));
    const ends: End[] = [() => rm(directory, { recursive: true, force: true })];
    const endGuard = guard({ remove: directory });
    ends.push(async () => endGuard());
    const toEnd = <T>(part: T, end: (part: T) => Promise<unknown>): T => {
      ends.unshift(() => end(part));
      return part;
    };
    try {
      const built = toEnd(await build(options.edits), (part) => part.remove());
      const store = toEnd(await (options.server?.() ?? startStore(options.store, options.prepare)), (part) =>
        part.stop(),
      );
      const ledgerFile = join(directory, 'ledger.jsonl');
      const ledger = toEnd(await startProcess(built.path('test/chaos/ledger.ts'), {}, [ledgerFile]), (part) =>
        part.stop(),
      );
      const cluster = toEnd(new Cluster(options, directory, store, ledger, built, ends), (part) => part.stopApps());
      for (let i = 1; i <= options.apps; i++) {
        cluster.apps.push({ name: `app${i}`, proxy: await startProxy(store.port), process: undefined, frozen: false });
      }
      await Promise.all(cluster.apps.map((app) => cluster.launch(app, MOST_FIRST_BOOTS)));
      return cluster;
    } catch (error) {
      for (const end of ends) await end();
      throw error;
    }
  }

  /** Servers that can be asked at this moment. */
  get listening(): { name: string; port: number }[] {
    return this.apps.flatMap(({ name, process }) => (process ? [{ name, port: process.port }] : []));
  }

  fault(kind: string, server: string | undefined, from: number, to = machineNow()): void {
    this.faults.push({ type: 'fault', kind, ...(server !== undefined && { server }), from, to });
  }

  tell(app: App, message: object): void {
    if (app.process?.child.connected) app.process.child.send(message, () => undefined);
  }

  /** No more crash points, and the clocks are right again. */
  becomeCalm(): void {
    this.calm = true;
    for (const app of this.apps) {
      this.tell(app, { calm: true });
      this.tell(app, { clockShiftMs: 0 });
    }
  }

  /** Resolves when every server is up. */
  async allUp(): Promise<void> {
    while (this.apps.some(({ process }) => !process)) {
      await Promise.all(this.starting);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** What the processes have written down, and what the ledger has. */
  async events(): Promise<Event[]> {
    const journals = await Promise.all(this.apps.map(({ name }) => readFile(this.journalOf(name), 'utf8')));
    const ledger = await readFile(join(this.directory, 'ledger.jsonl'), 'utf8');
    const effects = ledger.split('\n').filter((line) => line !== '');
    return [
      ...journals.flatMap(readJournal),
      ...effects.map((line) => JSON.parse(line) as EffectEvent),
      ...this.faults,
    ];
  }

  /** All that the applications have printed, by server. */
  outputOf(name: string): string {
    const live = this.apps.find((app) => app.name === name)?.process?.output ?? '';
    return (this.outputs.get(name) ?? '') + live;
  }

  /** The end of what each has printed, for a run that fails. */
  get lastOutput(): string {
    return this.apps.map(({ name }) => `${name}: ${this.outputOf(name).slice(-2_000)}`).join('\n');
  }

  async stop(): Promise<void> {
    for (const end of this.ends) await end();
  }

  private async stopApps(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.apps.map(async ({ process }) => process?.stop()));
    await Promise.allSettled(this.starting);
    await Promise.all(
      this.apps.map(async ({ process, proxy }) => {
        await process?.stop();
        await proxy.close();
      }),
    );
  }

  private journalOf(name: string): string {
    return join(this.directory, `${name}.jsonl`);
  }

  /** Starts a server, in so many tries; when it dies, by whatever hand, it is started again. */
  private launch(app: App, tries = Infinity): Promise<void> {
    const launching = this.tryToLaunch(app, tries).finally(() => this.starting.delete(launching));
    this.starting.add(launching);
    return launching;
  }

  private async tryToLaunch(app: App, tries: number): Promise<void> {
    const diedAt = machineNow();
    for (let number = 1; !this.stopping; number++) {
      try {
        const process = await startProcess(
          this.built.path(this.options.entry ?? 'test/chaos/app/main.ts'),
          this.environmentOf(app),
        );
        app.process = process;
        app.frozen = false;
        if (this.calm) this.tell(app, { calm: true });
        process.child.on('message', (message: { cutNextReply?: true }) => {
          if (!message.cutNextReply) return;
          app.proxy.dropReplies(1);
          this.tell(app, { cutIsReady: true });
        });
        void process.exited.then(() => {
          app.process = undefined;
          this.outputs.set(app.name, (this.outputs.get(app.name) ?? '') + process.output);
          if (!this.stopping) void this.launch(app);
        });
        break;
      } catch (error) {
        if (number >= tries) throw error;
        // The store may be down for longer than a boot has patience.
        this.outputs.set(app.name, `${this.outputs.get(app.name) ?? ''}${String(error)}\n`);
      }
    }
    this.fault('down', app.name, diedAt);
  }

  private environmentOf(app: App): Record<string, string> {
    const index = this.apps.indexOf(app);
    const { store, mode, leaseMs, deadlineMs, briefMs, purgeMs, secret, crash, cut } = this.options;
    const settings: AppSettings = {
      // A crash leaves nothing to be blocked, where nothing is written before the commit.
      ...(mode === 'transaction' ? { mode: 'block', transaction: true } : { mode, transaction: false }),
      minReplicas: this.options.minReplicas ?? 0,
      ...{ server: app.name, store, leaseMs, deadlineMs, briefMs, purgeMs, secret, crash, cut },
      platform: index % 2 === 0 ? 'express' : 'fastify',
      redisClient: index < this.options.apps / 2 ? 'ioredis' : 'node-redis',
      ...{ storePort: app.proxy.port, ledgerPort: this.ledger.port, journal: this.journalOf(app.name) },
      seed: this.options.seed * 1_000 + (this.lives += 1),
    };
    return { CHAOS_APP: JSON.stringify(settings) };
  }
}
