import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { connectedDataSource, storeOver } from './data-sources.js';
import { answer, HOUR_MS, request } from './requests.js';
import { until } from './waiting.js';

let database: TestDatabase;
let here: DataSource;
let there: DataSource;
const stores: IdempotencyStore[] = [];

beforeAll(async () => {
  database = await createTestDatabase('hints');
  here = await connectedDataSource(database.url);
  there = await connectedDataSource(database.url);
});

afterEach(async () => {
  for (const store of stores.splice(0)) await store.stop?.();
});

afterAll(async () => {
  await here.destroy();
  await there.destroy();
  await database.drop();
});

async function open(dataSource: DataSource, options: Parameters<typeof storeOver>[1] = {}): Promise<IdempotencyStore> {
  const store = await storeOver(dataSource, options);
  stores.push(store);
  return store;
}

interface Waiter {
  readonly wakes: number;
  end(): void;
}

function waiter(store: IdempotencyStore, recordKey: string): Waiter {
  let wakes = 0;
  const end = store.subscribe!(recordKey, () => (wakes += 1));
  return {
    get wakes() {
      return wakes;
    },
    end,
  };
}

/** Sessions of stores that listen. */
async function listeners(): Promise<number> {
  const [row] = (await here.query(
    `SELECT count(*)::integer AS listeners FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'idempotency' AND (query LIKE 'LISTEN %' OR query LIKE 'UNLISTEN %')`,
  )) as [{ listeners: number }];
  return row.listeners;
}

/** A store whose first subscription has been made and is listened for. */
async function listening(dataSource: DataSource): Promise<IdempotencyStore> {
  const store = await open(dataSource);
  const first = waiter(store, 'first');
  // Once somebody listens everybody is woken: what happened before was told to nobody.
  await until('the store listens', () => first.wakes > 0);
  first.end();
  return store;
}

it('wakes a waiter of another process within a moment', async () => {
  const [one, other] = [await listening(here), await open(there)];
  const own = request();
  await other.claim(own);
  const waiting = waiter(one, own.recordKey);
  await other.complete(own, answer(), HOUR_MS);
  const start = performance.now();
  await until('woken', () => waiting.wakes > 0);
  expect(performance.now() - start).toBeLessThan(1_000);
});

it('needs one connection, however many wait', async () => {
  const store = await listening(here);
  for (let index = 0; index < 200; index += 1) waiter(store, `key ${index}`);
  expect(await listeners()).toBe(1);
});

it('needs none before somebody waits', async () => {
  const store = await open(here);
  const own = request();
  await store.claim(own);
  await store.complete(own, answer(), HOUR_MS);
  expect(await listeners()).toBe(0);
});

it('tells of many writes with few statements', async () => {
  const [one, other] = [await listening(here), await open(there)];
  const own = Array.from({ length: 100 }, () => request());
  const waiting = own.map(({ recordKey }) => waiter(one, recordKey));
  const sent: string[] = [];
  const { calls } = other as unknown as { calls: { call(what: string, ...rest: unknown[]): Promise<unknown> } };
  const call = calls.call.bind(calls);
  calls.call = (what, ...rest) => {
    sent.push(what);
    return call(what, ...rest);
  };
  await Promise.all(own.map((each) => other.claim(each)));
  await Promise.all(own.map((each) => other.complete(each, answer(), HOUR_MS)));
  await until('all are woken', () => waiting.every(({ wakes }) => wakes > 0));
  expect(sent.filter((what) => what === 'complete')).toHaveLength(100);
  expect(sent.filter((what) => what === 'notify').length).toBeLessThan(50);
});

it('tells the last of it when it stops', async () => {
  const [one, other] = [await listening(here), await open(there)];
  const own = request();
  await other.claim(own);
  const waiting = waiter(one, own.recordKey);
  await other.complete(own, answer(), HOUR_MS);
  await other.stop?.();
  await until('woken', () => waiting.wakes > 0);
});

describe('a connection that listens', () => {
  let proxy: TcpProxy;
  let throughProxy: DataSource;

  beforeEach(async () => {
    proxy = await startProxy(Number(new URL(database.url).port));
    const url = new URL(database.url);
    url.port = String(proxy.port);
    throughProxy = await connectedDataSource(url.href, { poolErrorHandler: () => undefined });
  });

  afterEach(async () => {
    for (const store of stores.splice(0)) await store.stop?.();
    await throughProxy.destroy().catch(() => undefined);
    await proxy.close();
  });

  it('is made again when it is cut, and everybody is woken, because something may have been missed', async () => {
    const [store, other] = [await listening(throughProxy), await open(there)];
    const own = request();
    await other.claim(own);
    const [waiting, bystander] = [waiter(store, own.recordKey), waiter(store, 'bystander')];
    await proxy.refuse(true);
    proxy.cutAll();
    await other.complete(own, answer(), HOUR_MS);
    await proxy.refuse(false);
    await until('everybody is woken', () => waiting.wakes > 0 && bystander.wakes > 0);
    const next = request();
    await other.claim(next);
    const nextWaiting = waiter(store, next.recordKey);
    await other.release(next, { began: true });
    await until('hints come again', () => nextWaiting.wakes > 0);
  });

  it('that cannot be made leaves all else as it is, in-process hints included', async () => {
    await proxy.refuse(true);
    const store = await open(throughProxy);
    waiter(store, 'anybody');
    await proxy.refuse(false);
    const own = request();
    await store.claim(own);
    const waiting = waiter(store, own.recordKey);
    await store.complete(own, answer(), HOUR_MS);
    await until('woken', () => waiting.wakes > 0);
  });
});

it('is given up quietly where LISTEN is accepted and nothing comes of it, as behind a pooler', async () => {
  const store = await open(here);
  const { hints } = store as unknown as { hints: { state: string; options: { connect(): unknown } } };
  const connect = hints.options.connect;
  // A pooler in transaction mode: LISTEN is accepted, by a server connection that others use next.
  hints.options.connect = () => {
    const client = connect() as { query(query: { text: string }): Promise<unknown> };
    const query = client.query.bind(client);
    client.query = (asked) => query({ ...asked, text: asked.text.replace(/^LISTEN/, 'UNLISTEN') });
    return client;
  };
  const own = request();
  await store.claim(own);
  const waiting = waiter(store, own.recordKey);
  await until('it has been found out', () => hints.state === 'useless');
  await until('the connection is given back', async () => (await listeners()) === 0);
  await store.complete(own, answer(), HOUR_MS);
  await until('this process is told anyway', () => waiting.wakes > 0);
});

it('stays within the process when it is switched off', async () => {
  const [one, other] = [await open(here, { notify: false }), await open(there)];
  const own = request();
  await one.claim(own);
  const waiting = waiter(one, own.recordKey);
  await other.renew(own, 60_000);
  await other.abandon(own, { began: true });
  await sleep(100);
  expect([waiting.wakes, await listeners()]).toEqual([0, 0]);
  await one.forget(own.recordKey);
  await until('woken', () => waiting.wakes > 0);
});
