import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { DataSource, QueryRunner } from 'typeorm';
import { IdempotencyStoreError } from '../../lib/core/errors.js';
import type { StreamRef } from '../../lib/core/event-log.js';
import type { Claim } from '../../lib/core/record.js';
import type { IdempotencyStore, RenewResult } from '../../lib/core/store.js';
import { createTestDatabase, isolatedPostgres, type TestDatabase } from '../support/postgres.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';
import { timed, until } from './waiting.js';

const DEADLINE_MS = 500;
const SLACK_MS = 300;
const MUCH = 64 * 1024 * 1024;
const HEAD = { status: 200, headers: [['content-type', 'text/event-stream']] } as const;

let database: TestDatabase;
let dataSource: DataSource;
let store: IdempotencyStore;

beforeAll(async () => {
  database = await createTestDatabase('streams');
  dataSource = await connectedDataSource(database.url);
  store = await storeOver(dataSource);
  await store.start?.();
});

afterAll(async () => {
  await store.stop?.();
  await dataSource.destroy();
  await database.drop();
});

async function claim(changes?: Parameters<typeof request>[0], at = store): Promise<Claim> {
  const result = await at.claim(request(changes));
  if (result.kind !== 'claimed') throw new Error(`the claim was answered '${result.kind}'`);
  return result.claim;
}

function append(own: Claim, firstSeq: number, items: readonly string[], at = store): Promise<RenewResult> {
  const bytes = items.map((item) => new TextEncoder().encode(item));
  return at.events!.append(own, { firstSeq, items: bytes, ...(firstSeq === 1 && { head: HEAD }) }, 60_000);
}

async function texts(stream: StreamRef, at = store): Promise<string[] | undefined> {
  const items: string[] = [];
  for (;;) {
    const page = await at.events!.read(stream, items.length, MUCH);
    if (!page) return undefined;
    if (page.items.length === 0) return items;
    for (const { bytes } of page.items) items.push(Buffer.from(bytes).toString());
  }
}

/** How many batches there are: of this claim, or of anybody. */
async function batches(own?: Claim, source = dataSource): Promise<number> {
  const [{ rows }] = (await source.query(
    `SELECT count(*)::integer AS rows FROM idempotency_records_events ${own ? `WHERE stream_id = '${own.claimToken}'` : ''}`,
  )) as [{ rows: number }];
  return rows;
}

async function finishedSteps(recordId: string): Promise<number> {
  const rows: unknown[] = await dataSource.query('SELECT FROM idempotency_records_steps WHERE record_id = $1', [
    recordId,
  ]);
  return rows.length;
}

async function leftBehind({ recordKey }: Claim): Promise<string[] | null | undefined> {
  const rows = (await dataSource.query('SELECT left_behind FROM idempotency_records WHERE record_key = $1', [
    Buffer.from(recordKey, 'base64url'),
  ])) as { left_behind: string[] | null }[];
  return rows[0]?.left_behind;
}

const lapse = async (own: Claim): Promise<void> => {
  expect(await store.renew(own, 1)).toBe('written');
  await sleep(20);
};

describe('a network between store and server', () => {
  let proxy: TcpProxy;
  let far: IdempotencyStore;
  let farSource: DataSource;

  beforeEach(async () => {
    proxy = await startProxy(Number(new URL(database.url).port));
    const url = new URL(database.url);
    url.port = String(proxy.port);
    farSource = await connectedDataSource(url.href, { poolErrorHandler: () => undefined });
    // Without hints, whose statements would take a fault that is meant for another.
    far = await storeOver(farSource, { deadline: '5s', notify: false });
    await far.start?.();
  });

  afterEach(async () => {
    await far.stop?.();
    proxy.cutAll();
    await farSource.destroy().catch(() => undefined);
    await proxy.close();
  });

  it('that loses the reply of each append: each item is there once, and the next append goes on', async () => {
    const own = await claim();
    const expected: string[] = [];
    for (let batch = 0; batch < 20; batch += 1) {
      const items = Array.from({ length: (batch % 3) + 1 }, (_, i) => `${batch}.${i}`);
      proxy.dropReplies(1);
      expect(await append(own, expected.length + 1, items, far)).toBe('written');
      expected.push(...items);
    }
    expect(await texts(own)).toEqual(expected);
    expect(await batches(own)).toBe(20);
  });

  it('that loses the reply of each save: the first result stays', async () => {
    const own = await claim();
    for (const name of ['a', 'b', 'a']) {
      proxy.dropReplies(1);
      expect(await far.steps!.save(own, name, Buffer.from(name), 60_000)).toBe('written');
    }
    proxy.dropReplies(1);
    expect([...(await far.steps!.load(own)).keys()].toSorted()).toEqual(['a', 'b']);
    expect(await finishedSteps(own.recordId)).toBe(2);
  });

  it('that loses the reply of a request to cancel: it is not sent twice, and fails', async () => {
    const own = await claim();
    proxy.dropReplies(1);
    await expect(far.requestCancel!(own.recordKey)).rejects.toBeInstanceOf(IdempotencyStoreError);
    expect(await store.renew(own, 60_000)).toBe('cancel_requested');
  });
});

describe('a server that freezes', () => {
  it('holds no call longer than the deadline; a batch that is sent again afterwards is there once', async () => {
    const server = await isolatedPostgres();
    const source = await connectedDataSource(server.url);
    const at = await storeOver(source, { deadline: DEADLINE_MS, notify: false });
    await at.start?.();
    const own = await claim({}, at);
    expect(await append(own, 1, ['one'], at)).toBe('written');
    await server.pause();
    const calls = {
      append: () => append(own, 2, ['two'], at),
      read: () => at.events!.read(own, 0, MUCH),
      save: () => at.steps!.save(own, 'step', Buffer.from('1'), 60_000),
      load: () => at.steps!.load(own),
      cancel: () => at.requestCancel!(own.recordKey),
    };
    for (const [name, call] of Object.entries(calls)) {
      const { ms, error } = await timed<unknown>(call);
      expect([name, error]).toEqual([name, expect.any(IdempotencyStoreError)]);
      expect([name, ms < DEADLINE_MS + SLACK_MS, ms]).toEqual([name, true, ms]);
    }
    await server.resume();
    await until(
      'the store works again',
      async () => (await timed(() => append(own, 2, ['two'], at))).error === undefined,
    );
    expect(await append(own, 3, ['three'], at)).not.toBe('lost');
    expect(await texts(own, at)).toEqual(['one', 'two', 'three']);
    expect(await batches(own, source)).toBe(3);
    await at.stop?.();
    await source.destroy();
    await server.stop();
  });

  it('and is killed: what was acknowledged is there, though the database wants commits to be quick', async () => {
    const server = await isolatedPostgres({ synchronous_commit: 'off', wal_writer_delay: '10s' });
    const source = await connectedDataSource(server.url, { poolErrorHandler: () => undefined });
    const at = await storeOver(source, { deadline: '5s', notify: false });
    const own = await claim({}, at);
    let acknowledged = 0;
    const produce = (async () => {
      for (let seq = 1; ; seq += 1) {
        try {
          if ((await append(own, seq, [`item ${seq}`], at)) === 'lost') return;
        } catch {
          return;
        }
        acknowledged = seq;
      }
    })();
    await until('there is something to lose', () => acknowledged >= 100, 60_000);
    await server.kill();
    await produce;
    await server.restart();
    await until('the store works again', async () => (await timed(() => at.find(own.recordKey))).error === undefined);
    const found = (await texts(own, at))!;
    expect(found.length).toBeGreaterThanOrEqual(acknowledged);
    expect(found).toEqual(found.map((_, i) => `item ${i + 1}`));
    await at.stop?.();
    await source.destroy().catch(() => undefined);
    await server.stop();
  }, 60_000);
});

describe('a producer that is late', () => {
  let runner: QueryRunner;

  beforeAll(async () => {
    runner = dataSource.createQueryRunner();
    await runner.connect();
  });

  afterAll(() => runner.release());

  // The takeover is under way when the append comes: an INSERT that only looks at the claim would see it
  // as it was, and write beside the successor.
  it('writes nothing beside a takeover, whoever is first, in 50 rounds', async () => {
    for (let round = 0; round < 50; round += 1) {
      const own = await claim();
      expect(await append(own, 1, ['one'])).toBe('written');
      expect(await store.renew(own, 30)).toBe('written');
      const key = Buffer.from(own.recordKey, 'base64url');
      await runner.startTransaction();
      await runner.query('SELECT FROM idempotency_records WHERE record_key = $1 FOR UPDATE', [key]);
      const late = append(own, 2, ['late']);
      const save = store.steps!.save(own, 'late', Buffer.from('1'), 60_000);
      await sleep(round % 2 === 0 ? 10 : 40);
      await runner.query(
        `UPDATE idempotency_records SET claim_token = gen_random_uuid(), attempt = attempt + 1, lease_until = clock_timestamp() + interval '1 minute',
           stream_id = NULL, stream_head = NULL, stream_tail = NULL WHERE record_key = $1`,
        [key],
      );
      await runner.commitTransaction();
      expect([await late, await save]).toEqual(['lost', 'lost']);
      expect(await batches(own)).toBe(1);
      expect(await finishedSteps(own.recordId)).toBe(0);
    }
  }, 60_000);

  it('and a takeover that waits for the same row: one of them gets it, never both', async () => {
    for (let round = 0; round < 20; round += 1) {
      const own = await claim();
      expect(await store.renew(own, 30)).toBe('written');
      await runner.startTransaction();
      await runner.query('SELECT FROM idempotency_records WHERE record_key = $1 FOR UPDATE', [
        Buffer.from(own.recordKey, 'base64url'),
      ]);
      const late = append(own, 1, ['late']);
      await sleep(40);
      const taken = store.claim(request({ recordKey: own.recordKey, takeOver: true }));
      await sleep(10);
      await runner.rollbackTransaction();
      const written = (await late) === 'written';
      expect((await taken).kind).toBe(written ? 'in_progress' : 'claimed');
      expect(await batches(own)).toBe(written ? 1 : 0);
    }
  });
});

describe('what nobody reads any more is removed', () => {
  it('with the record that is forgotten or purged', async () => {
    for (const way of ['forget', 'purge'] as const) {
      const own = await claim();
      await append(own, 1, ['one']);
      await store.steps!.save(own, 'step', Buffer.from('1'), 60_000);
      await store.complete(own, answer(), way === 'purge' ? 1 : HOUR_MS);
      await sleep(20);
      if (way === 'purge') await store.purge(1_000);
      else expect(await store.forget(own.recordKey)).toBe(true);
      expect([await batches(own), await finishedSteps(own.recordId)]).toEqual([0, 0]);
    }
  });

  it('soon after the retention is over and the key is used again', async () => {
    const own = await claim();
    await append(own, 1, ['one']);
    await store.steps!.save(own, 'step', Buffer.from('1'), 60_000);
    await store.complete(own, answer(), 1);
    await sleep(20);
    const next = await claim({ recordKey: own.recordKey });
    expect(next.recordId).not.toBe(own.recordId);
    await until('all is swept', async () => (await batches(own)) + (await finishedSteps(own.recordId)) === 0);
    expect(await leftBehind(next)).toBeNull();
  });

  it.each(['complete', 'release', 'abandon'] as const)(
    'of the attempt before, once a later one has come to a %s; until then it can be given back',
    async (end) => {
      const first = await claim();
      await append(first, 1, ['one', 'two']);
      await store.steps!.save(first, 'step', Buffer.from('1'), 60_000);
      await lapse(first);

      const undone = await claim({ recordKey: first.recordKey, takeOver: true });
      await append(undone, 1, ['undone']);
      expect(await leftBehind(undone)).toEqual([first.claimToken]);
      await store.release(undone, { began: false });
      expect(await texts(first)).toEqual(['one', 'two']);
      await until('the undone one is swept', async () => (await batches(undone)) === 0);

      const uncounted = await claim({ recordKey: first.recordKey, takeOver: true });
      await append(uncounted, 1, ['uncounted']);
      await store.abandon(uncounted, { began: false });
      expect(await texts(first)).toEqual(['one', 'two']);
      await until('the uncounted one is swept', async () => (await batches(uncounted)) === 0);

      const second = await claim({ recordKey: first.recordKey, takeOver: true });
      await append(second, 1, ['again']);
      expect(await batches(first)).toBe(1);
      if (end === 'complete')
        await store.complete(second, { kept: 'stream', ...HEAD, end: 'complete', items: 1 }, HOUR_MS);
      else await store[end](second, { began: true });
      await until('the first one is swept', async () => (await batches(first)) === 0);
      await until('nothing is left behind', async () => (await leftBehind(second)) === null);
      expect(await texts(second)).toEqual(['again']);
      expect(await finishedSteps(first.recordId)).toBe(1);
    },
  );

  it('of a record that a claim of another payload has replaced, unless that is given back', async () => {
    const first = await claim();
    await append(first, 1, ['one']);
    await store.steps!.save(first, 'step', Buffer.from('1'), 60_000);
    await store.release(first, { began: true });

    const undone = await claim({ recordKey: first.recordKey, fingerprint: 'other' });
    await append(undone, 1, ['undone']);
    await store.steps!.save(undone, 'step', Buffer.from('2'), 60_000);
    await store.release(undone, { began: false });
    await until('the undone one is swept', async () => (await batches(undone)) === 0);
    expect(await finishedSteps(undone.recordId)).toBe(0);
    expect([await texts(first), await finishedSteps(first.recordId)]).toEqual([['one'], 1]);

    const second = await claim({ recordKey: first.recordKey, fingerprint: 'other' });
    await store.complete(second, answer(), HOUR_MS);
    await until(
      'the first one is swept',
      async () => (await batches(first)) + (await finishedSteps(first.recordId)) === 0,
    );
    expect(await leftBehind(second)).toBeNull();
  });

  it('with the record, where the sweep did not come about', async () => {
    const first = await claim();
    await append(first, 1, ['one']);
    await lapse(first);
    const second = await claim({ recordKey: first.recordKey, takeOver: true });
    await append(second, 1, ['two']);
    await lapse(second);
    const third = await claim({ recordKey: first.recordKey, takeOver: true });
    await lapse(third);
    expect(await store.forget(first.recordKey)).toBe(true);
    for (const each of [first, second, third]) expect(await batches(each)).toBe(0);
  });

  it('by a purge in pieces, where it is much; all of it by one call', async () => {
    await store.purge(1_000);
    const own: Claim[] = [];
    for (let each = 0; each < 5; each += 1) {
      own.push(await claim());
      await append(
        own[each]!,
        1,
        Array.from({ length: 9_000 }, () => 'item'),
      );
      await store.complete(own[each]!, { kept: 'stream', ...HEAD, end: 'complete', items: 9_000 }, 1);
    }
    await sleep(20);
    expect(await store.purge(2)).toBe(2);
    expect(await store.purge(1_000)).toBe(3);
    for (const each of own) expect(await batches(each)).toBe(0);
  });
});

it('an append writes in place: no index of the record changes while a stream is recorded', async () => {
  const own = await claim();
  const page = async (): Promise<unknown> =>
    ((await dataSource.query(`SELECT pg_relation_size('"PK_cbec2fb34d760b568501976fd2b"') AS size`)) as unknown[])[0];
  const before = await page();
  for (let seq = 1; seq <= 300; seq += 1) await append(own, seq, ['item']);
  expect(await page()).toEqual(before);
});

it('tells other processes of appends by few notifications, however many there are', async () => {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  const [{ channel }] = await channels();
  let notified = 0;
  client.on('notification', ({ payload }) => void (notified += payload === own.recordKey ? 1 : 0));
  await client.query(`LISTEN ${channel}`);
  const own = await claim();
  const begin = performance.now();
  for (let seq = 1; seq <= 200; seq += 1) await append(own, seq, ['item']);
  await until('it is told', () => notified > 0);
  await sleep(100);
  expect(notified).toBeLessThanOrEqual((performance.now() - begin) / 10 + 1);
  expect(notified).toBeLessThan(200);
  await client.end();
});

/** The channel on which a store listens, as the server tells it. */
async function channels(): Promise<[{ channel: string }]> {
  const end = store.subscribe!('A'.repeat(43), () => undefined);
  let found: { channel: string }[] = [];
  await until('the store listens', async () => {
    found = (await dataSource.query(
      `SELECT substring(query FROM 'idempotency_[0-9a-f]{40}') AS channel FROM pg_stat_activity
       WHERE query LIKE 'LISTEN %' AND datname = current_database()`,
    )) as { channel: string }[];
    return found.length > 0;
  });
  end();
  return found.slice(0, 1) as [{ channel: string }];
}

it('reads 5,000 items that came one by one in little time', async () => {
  const own = await claim();
  await append(own, 1, ['first']);
  await dataSource.query(
    `INSERT INTO idempotency_records_events SELECT $1, n, ARRAY[5], 'token'::bytea FROM generate_series(2, 5000) n`,
    [own.claimToken],
  );
  await dataSource.query('UPDATE idempotency_records SET stream_tail = 5000 WHERE claim_token = $1', [own.claimToken]);
  const { ms, value } = await timed(() => texts(own));
  expect(value?.length).toBe(5_000);
  expect(ms).toBeLessThan(3_000);
});
