import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guard } from '../../sample-app/src/embedded-postgres.ts';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { startProcess, type AppProcess } from './app-process.js';
import { build, type Build, type Edit } from './build.js';
import type { EffectEvent, Event, FaultEvent } from './checker/history.js';
import { readJournal } from './app/journal.js';
import { machineNow, type AppSettings } from './app/settings.js';
import { startStore, type StoreServer } from './store-server.js';

export interface ClusterOptions {
  readonly store: 'postgres' | 'redis';
  readonly mode: 'block' | 'rerun';
  readonly apps: number;
  readonly leaseMs: number;
  readonly deadlineMs: number;
  readonly briefMs: number;
  readonly purgeMs: number;
  readonly secret: string;
  readonly seed: number;
  readonly crash: number;
  readonly cut: number;
  /** A planted bug. */
  readonly edits?: readonly Edit[];
}

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
    private readonly endGuard: () => void,
  ) {}

  static async start(options: ClusterOptions): Promise<Cluster> {
    const directory = await mkdtemp(join(tmpdir(), 'idempotency-chaos-'));
    const endGuard = guard({ remove: directory });
    const store = await startStore(options.store);
    const ledgerFile = join(directory, 'ledger.jsonl');
    const built = await build(options.edits);
    const ledger = await startProcess(built.path('test/chaos/ledger.ts'), {}, [ledgerFile]);
    const cluster = new Cluster(options, directory, store, ledger, built, endGuard);
    for (let i = 1; i <= options.apps; i++) {
      cluster.apps.push({ name: `app${i}`, proxy: await startProxy(store.port), process: undefined, frozen: false });
    }
    await Promise.all(cluster.apps.map((app) => cluster.launch(app)));
    return cluster;
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
    this.stopping = true;
    await Promise.all(this.apps.map(async ({ process }) => process?.stop()));
    await Promise.all(this.starting);
    await Promise.all(
      this.apps.map(async ({ process, proxy }) => {
        await process?.stop();
        await proxy.close();
      }),
    );
    await this.ledger.stop();
    await this.store.stop();
    await this.built.remove();
    await rm(this.directory, { recursive: true, force: true });
    this.endGuard();
  }

  private journalOf(name: string): string {
    return join(this.directory, `${name}.jsonl`);
  }

  /** Starts a server; when it dies, by whatever hand, it is started again. */
  private launch(app: App): Promise<void> {
    const launching = this.tryToLaunch(app).finally(() => this.starting.delete(launching));
    this.starting.add(launching);
    return launching;
  }

  private async tryToLaunch(app: App): Promise<void> {
    const diedAt = machineNow();
    while (!this.stopping) {
      try {
        const process = await startProcess(this.built.path('test/chaos/app/main.ts'), this.environmentOf(app));
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
      ...{ server: app.name, store, mode, leaseMs, deadlineMs, briefMs, purgeMs, secret, crash, cut },
      platform: index % 2 === 0 ? 'express' : 'fastify',
      redisClient: index < this.options.apps / 2 ? 'ioredis' : 'node-redis',
      ...{ storePort: app.proxy.port, ledgerPort: this.ledger.port, journal: this.journalOf(app.name) },
      seed: this.options.seed * 1_000 + (this.lives += 1),
    };
    return { CHAOS_APP: JSON.stringify(settings) };
  }
}
