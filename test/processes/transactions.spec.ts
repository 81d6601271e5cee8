import pg from 'pg';
import { recordKeyOf } from '../../lib/core/record-key.js';
import { eventually, type Answer } from '../e2e/support/http-client.js';
import { random } from '../simulation/random.js';
import { codeOf, expectInProgress, expectReplayOf, isReplay } from './support/answers.js';
import { BOOT_MS } from './support/applications.js';
import { Desk } from './support/desk.js';
import { postgres, type Place } from './support/places.js';
import { Worker } from './support/workers.js';

/** How many processes are killed. */
const KILLS = Number(process.env['TRANSACTION_KILLS'] ?? 12);
const SEED = Number(process.env['SEED'] ?? 1);

const POINTS = [
  'before the claim',
  'after the claim',
  'before the write',
  'after the write',
  'before the completion',
  'after the completion',
  'after the commit',
  'after the answer',
] as const;

const never = new Promise<never>(() => undefined);

/** What is there for one key: how often the handler's write, and whether a recorded completion. */
interface Found {
  readonly rows: number;
  readonly state: string | null;
}

let desk: Desk;
let place: Place;
let survivor: Worker;
let database: pg.Pool;

const start = (adapter: 'express' | 'fastify') =>
  Worker.start({ adapter, store: place.store, desk: desk.url, idempotency: {} });

beforeAll(async () => {
  desk = await Desk.open();
  place = await postgres.open('transactions');
  if (place.store.kind !== 'postgres') throw new Error('not on Postgres');
  database = new pg.Pool({ connectionString: place.store.url, max: 4 });
  await database.query('CREATE TABLE purchases (id serial PRIMARY KEY, key text, attempt int, item text UNIQUE)');
  survivor = await start('express');
}, BOOT_MS);

afterAll(async () => {
  await survivor?.kill();
  await database?.end();
  await place?.close();
  desk?.close();
});

const recordKeyBytes = (key: string) =>
  Buffer.from(recordKeyOf({ operation: 'POST /purchases', scope: 'acme', key }), 'base64url');

/** Both in one statement, so that they are of one moment. */
async function found(key: string): Promise<Found> {
  const { rows } = await database.query<Found>(
    `SELECT (SELECT count(*)::int FROM purchases WHERE key = $1) AS rows,
       (SELECT state FROM idempotency_records WHERE record_key = $2) AS state`,
    [key, recordKeyBytes(key)],
  );
  return rows[0]!;
}

/** The rule: one row where there is a completion, and none where there is none. */
function expectAgreement(key: string, { rows, state }: Found): void {
  expect({ key, state, rows }).toEqual({ key, state, rows: state === 'completed' ? 1 : 0 });
}

describe('transaction: true whose process is killed', () => {
  const draw = random(SEED);
  const answeredBefore: [string, Answer][] = [];
  const lastSeen = new Map<string, number>();
  let spare: Promise<Worker>;

  beforeAll(() => {
    spare = start('fastify');
  });
  afterAll(async () => (await spare).kill());

  it(
    `${KILLS} kills: rows and recorded completions agree, none twice, none lost that was answered`,
    async () => {
      const retried: Promise<void>[] = [];
      for (let kill = 0; kill < KILLS; kill += 1) {
        const victim = await spare;
        spare = start(kill % 2 === 0 ? 'express' : 'fastify');
        const cases = POINTS.map((point) => ({ point, key: `${kill} ${point}` }));
        // Each request is stopped at its point; in every other round they run on, and the kill comes when it comes.
        const isHeld = kill % 2 === 0;
        if (isHeld) for (const { key, point } of cases) desk.holdAt(key, point);
        const clients = cases.map(async ({ key, point }) => ({ key, point, ...(await outcomeOf(victim, key)) }));
        if (isHeld) {
          // Where the machine is so busy that a lease ends meanwhile, the point is not reached, and the answer says so.
          await Promise.all(
            cases.map(({ key, point }, index) =>
              Promise.race([clients[index], point === 'after the answer' ? never : desk.untilAt(key, point)]),
            ),
          );
        } else {
          const steps = Math.floor(draw() * POINTS.length * (POINTS.length - 1));
          const ended = Promise.allSettled(clients).then(() => true);
          await Promise.race([
            ended,
            eventually(() => desk.pointsOf(victim.process.pid) > steps, 'the moment', 60_000),
          ]);
        }
        await victim.kill();
        const stoppedAt = new Map<string, string>();
        for (const { key, point, answer, code } of await Promise.all(clients)) {
          desk.letGo(key, point);
          if (answer?.status === 201) answeredBefore.push([key, answer]);
          else if (answer) expect({ key, status: answer.status }).toEqual({ key, status: 503 });
          else expect([point, code]).toEqual([point, 'ECONNRESET']);
          const last = answer
            ? 'after the answer'
            : (desk.points.findLast((one) => one.key === key)?.point ?? 'before the request came in');
          lastSeen.set(last, (lastSeen.get(last) ?? 0) + 1);
          if (isHeld && answer?.status !== 503) stoppedAt.set(key, point);
        }
        // At every moment, also while the server still rolls back what the killed process had begun.
        for (const { key } of cases) expectAgreement(key, await found(key));
        // The next process is killed while the retries of this one still wait for its leases to end.
        retried.push(...cases.map(({ key }) => expectRetryCompletes(key, stoppedAt.get(key))));
        for (const one of retried) one.catch(() => undefined);
      }
      await Promise.all(retried);

      // What was answered before a kill is what the retry was answered, and is in the table.
      expect(answeredBefore.length).toBeGreaterThanOrEqual(Math.ceil(KILLS / 2));
      for (const [key, first] of answeredBefore) {
        expectReplayOf(first, await survivor.post('purchases', key));
      }
      const { rows } = await database.query<{ keys: number; rows: number }>(
        `SELECT count(*)::int AS rows, count(DISTINCT key)::int AS keys FROM purchases`,
      );
      const completed = await database.query(`SELECT FROM idempotency_records WHERE state = 'completed'`);
      const keys = KILLS * POINTS.length;
      expect({ ...rows[0], completed: completed.rowCount }).toEqual({ rows: keys, keys, completed: keys });
      const hits = [...lastSeen].map(([point, times]) => `${point}: ${times}`).join(', ');
      console.log(`${KILLS} kills, ${keys} requests cut or answered; the last point of each: ${hits}`);
    },
    BOOT_MS + KILLS * 15_000,
  );

  /** On another process; `point` is where the request was stopped, if that is known. */
  async function expectRetryCompletes(key: string, point: string | undefined): Promise<void> {
    const answer = await survivor.untilDecided('purchases', key);
    expect({ key, status: answer.status }).toEqual({ key, status: 201 });
    expect(await found(key)).toEqual({ rows: 1, state: 'completed' });
    if (point === undefined) return;
    const isCommitted = point === 'after the commit' || point === 'after the answer';
    expect({ key, replay: isReplay(answer) }).toEqual({ key, replay: isCommitted });
  }
});

/** What the client of a process that may be killed has got: an answer, or the code of an error. */
async function outcomeOf(worker: Worker, key: string): Promise<{ answer?: Answer; code?: string | undefined }> {
  try {
    return { answer: await worker.post('purchases', key) };
  } catch (error) {
    return { code: (error as NodeJS.ErrnoException).code };
  }
}

describe('transaction: true whose process is frozen past its lease', () => {
  const early = ['after the claim', 'before the write', 'after the write', 'before the completion'] as const;
  const late = 'after the completion';
  const row = 'with a row that the second attempt needs';
  const first = new Map<string, Answer>();
  const second = new Map<string, Answer>();
  const whileFrozen = new Map<string, Found>();

  beforeAll(async () => {
    const sleeper = await start('fastify');
    const cases = [...early, late, row].map((key) => ({
      key,
      point: key === row ? 'after the write' : key,
      body: key === row ? { item: 'the only one' } : {},
    }));
    for (const { key, point } of cases) desk.holdAt(key, point);
    const clients = cases.map(async ({ key, body }) => first.set(key, await sleeper.post('purchases', key, body)));
    await Promise.all(cases.map(({ key, point }) => desk.untilAt(key, point)));
    sleeper.process.kill('SIGSTOP');
    for (const { key, point } of cases) desk.letGo(key, point);

    const retry = async ({ key, body }: (typeof cases)[number]): Promise<void> =>
      void second.set(key, await survivor.untilDecided('purchases', key, body));
    const waiting = cases.filter(({ key }) => key === late || key === row).map(retry);
    await Promise.all(cases.filter(({ key }) => key !== late && key !== row).map(retry));
    // It has got as far as the row that the frozen transaction has written.
    await desk.untilAt(row, 'before the write', 2);
    await eventually(async () => (await lockWaits()) >= 2, 'the second attempts wait for rows');
    for (const { key } of cases) whileFrozen.set(key, await found(key));
    sleeper.process.kill('SIGCONT');
    await Promise.all([...clients, ...waiting]);
    await sleeper.kill();
  }, BOOT_MS);

  it.each(early)(
    '%s: the second attempt commits; the first rolls back, and its client gets what is recorded',
    async (key) => {
      expect(whileFrozen.get(key)).toEqual({ rows: 1, state: 'completed' });
      expect(second.get(key)!.json()['attempt']).toBe(2);
      expect(isReplay(second.get(key)!)).toBe(false);
      expectReplayOf(second.get(key)!, first.get(key)!);
      await expectOneRow(key, 2);
    },
  );

  it('after a write of a row that the second attempt needs: that one waits for the first to wake, and wins', async () => {
    expect(whileFrozen.get(row)).toEqual({ rows: 0, state: 'in_progress' });
    expect([second.get(row)!.status, isReplay(second.get(row)!)]).toEqual([201, false]);
    // It comes while the second one still runs, or when it has just completed.
    if (codeOf(first.get(row)!) !== undefined) expectInProgress(first.get(row)!);
    else expectReplayOf(second.get(row)!, first.get(row)!);
    await expectOneRow(row, 2);
  });

  it('between completion and commit: nobody takes it over, and it commits when it wakes', async () => {
    expect(whileFrozen.get(late)).toEqual({ rows: 0, state: 'in_progress' });
    expect([first.get(late)!.status, isReplay(first.get(late)!)]).toEqual([201, false]);
    expectReplayOf(first.get(late)!, second.get(late)!);
    await expectOneRow(late, 1);
  });

  async function expectOneRow(key: string, attempt: number): Promise<void> {
    expect(await found(key)).toEqual({ rows: 1, state: 'completed' });
    const { rows } = await database.query<{ attempt: number }>('SELECT attempt FROM purchases WHERE key = $1', [key]);
    expect(rows).toEqual([{ attempt }]);
  }

  async function lockWaits(): Promise<number> {
    const { rows } = await database.query<{ waiting: number }>(
      `SELECT count(*)::int AS waiting FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    return rows[0]!.waiting;
  }
});
