import { DataSource } from 'typeorm';
import { CreateIdempotencyRecords1764000000000, idempotencyEntities } from 'nestjs-idempotency/typeorm';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.js';
import { spawnFixture, type Fixture } from '../../support/processes.js';
import type { ConsumerConfig, Done } from '../fixtures/consumer.js';

const program = new URL('../fixtures/consumer.ts', import.meta.url);

/** A busy machine starts several at once. */
const BOOT_MS = 90_000;

/** Consumer processes that work on one database, and what they have done to it. */
export class Consumers {
  kills = 0;

  private constructor(
    private readonly config: ConsumerConfig,
    private readonly processes: Fixture[],
    private readonly database: TestDatabase,
    private readonly dataSource: DataSource,
  ) {}

  static async start(count: number, config: Omit<ConsumerConfig, 'databaseUrl'>): Promise<Consumers> {
    const database = await createTestDatabase(`consumers ${config.queue}`);
    const dataSource = await new DataSource({
      type: 'postgres',
      url: database.url,
      entities: idempotencyEntities(),
      migrations: [CreateIdempotencyRecords1764000000000],
      migrationsRun: true,
    }).initialize();
    // Without a key, so that a second effect of a message is seen rather than refused.
    await dataSource.query('CREATE TABLE effects (id text, pid int, attempt int)');
    await dataSource.query('CREATE TABLE starts (id text, pid int, attempt int)');
    const whole = { ...config, databaseUrl: database.url };
    const processes = await Promise.all(Array.from({ length: count }, () => spawn(whole)));
    return new Consumers(whole, processes, database, dataSource);
  }

  /** Kills one that is at work, and starts another in its place. */
  async replaceOne(): Promise<void> {
    const index = this.kills++ % this.processes.length;
    this.processes[index]!.kill('SIGKILL');
    await this.processes[index]!.exited;
    this.processes[index] = await spawn(this.config);
  }

  async effects(): Promise<Done[]> {
    return this.dataSource.query<Done[]>('SELECT id, pid, attempt FROM effects');
  }

  async effectCount(): Promise<number> {
    return countIn(await this.dataSource.query('SELECT count(*)::int AS count FROM effects'));
  }

  /** How often a handler was started, also where it did not end. */
  async startCount(): Promise<number> {
    return countIn(await this.dataSource.query('SELECT count(*)::int AS count FROM starts'));
  }

  /** Ends the processes as a deployment does. */
  async stopAll(): Promise<void> {
    await Promise.all(this.processes.splice(0).map((process) => process.stop()));
  }

  async startAgain(count: number): Promise<void> {
    this.processes.push(...(await Promise.all(Array.from({ length: count }, () => spawn(this.config)))));
  }

  async remove(): Promise<void> {
    await this.stopAll();
    await this.dataSource.destroy();
    await this.database.drop();
  }
}

function spawn(config: ConsumerConfig): Promise<Fixture> {
  return spawnFixture(program, { env: { CONSUMER: JSON.stringify(config) }, readyTimeout: BOOT_MS });
}

function countIn(rows: unknown): number {
  return (rows as [{ count: number }])[0].count;
}
