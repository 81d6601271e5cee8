import { Body, Controller, Post, type ExecutionContext } from '@nestjs/common';
import { MessagePattern, Payload, Transport, type ClientProxy } from '@nestjs/microservices';
import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import {
  Idempotent,
  IdempotencyContext,
  IndeterminateError,
  type IdempotencyRouteOptions,
  type IdempotencyRunContext,
  type IdempotencyService,
  type IdempotencyStore,
  type RecordView,
} from 'nestjs-idempotency';
import { idempotencyEntities } from 'nestjs-idempotency/typeorm';
import { fingerprintOfPayload } from '../../lib/core/fingerprint.js';
import { termsOfUnsettled } from '../../lib/core/policy.js';
import { recordKeyOf } from '../../lib/core/record-key.js';
import { freePort } from '../../sample-app/src/embedded-postgres.js';
import { connectClient, refusalOf, startHybrid, type Running } from '../messages/support/application.js';
import { connectedDataSource, storeOver } from '../typeorm/data-sources.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { send } from './support/http-client.js';

interface Order {
  readonly id: string;
}

/** Of each order: how often its handler ran, and whether it can tell what it has done. */
const runs = new Map<string, number>();
let canTell = false;
/** What the recover function was asked, and what it says. */
let asked: RecordView[] = [];
let said: 'block' | 'rerun' | { completed: { body: unknown } } = 'block';

async function work({ id }: Order, context: IdempotencyRunContext, isInTransaction: boolean) {
  runs.set(id, (runs.get(id) ?? 0) + 1);
  if (isInTransaction) await context.manager.query('INSERT INTO things (item) VALUES ($1)', [id]);
  if (!canTell) throw new IndeterminateError();
  return { attempt: context.attempt };
}

const asks: IdempotencyRouteOptions['afterCrash'] = (record) => {
  asked.push(record);
  return said;
};

const POLICIES = {
  block: {},
  rerun: { afterCrash: 'rerun' },
  function: { afterCrash: asks },
  'transaction block': { transaction: true },
  'transaction rerun': { transaction: true, afterCrash: 'rerun' },
  'transaction function': { transaction: true, afterCrash: asks },
} as const satisfies Record<string, IdempotencyRouteOptions>;
type PolicyName = keyof typeof POLICIES;

const key = (context: ExecutionContext): string =>
  context.getType() === 'http'
    ? (context.switchToHttp().getRequest<{ body: Order }>().body.id ?? '')
    : context.switchToRpc().getData<Order>().id;

/** A handler of requests and messages for each policy. */
const controllers = Object.entries(POLICIES).map(([name, policy]) => {
  @Controller(name.replace(' ', '-'))
  class OrdersController {
    @Post()
    @MessagePattern(name)
    @Idempotent({ ...policy, key })
    order(@Body() @Payload() order: Order, @IdempotencyContext() context: IdempotencyRunContext) {
      return work(order, context, 'transaction' in policy);
    }
  }
  return OrdersController;
});

let database: TestDatabase;
let dataSource: DataSource;
let store: IdempotencyStore;
let app: Running & { readonly url: string };
let client: ClientProxy;
let idempotency: IdempotencyService;

beforeAll(async () => {
  database = await createTestDatabase('declared unknown');
  dataSource = await connectedDataSource(database.url, { entities: idempotencyEntities() });
  await dataSource.query('CREATE TABLE things (item text)');
  store = await storeOver(dataSource);
  const tcp = { host: '127.0.0.1', port: await freePort() };
  app = await startHybrid({ controllers, idempotency: { store } }, { transport: Transport.TCP, options: tcp });
  ({ idempotency } = app);
  client = await connectClient({ transport: Transport.TCP, options: tcp });
});
afterAll(async () => {
  client?.close();
  await app?.close();
  await dataSource?.destroy();
  await database?.drop();
});

beforeEach(() => {
  canTell = false;
  asked = [];
  said = 'block';
});

const nameOf = (operation: string, id: string) => ({ operation, scope: 'global', key: id });

/** The ways in which an operation comes to run: its name, and how to call it. What is refused is given as its `code`. */
const WAYS = {
  'a request': {
    operation: (policy: PolicyName) => `POST /${policy.replace(' ', '-')}`,
    call: async (policy: PolicyName, id: string): Promise<unknown> => {
      const answer = await send(`${app.url}/${policy.replace(' ', '-')}`, { body: { id } });
      const body = answer.json() as { code?: string };
      return answer.status === 409 ? body.code : body;
    },
  },
  'a message': {
    operation: (policy: PolicyName) => `message ${policy}`,
    call: async (policy: PolicyName, id: string): Promise<unknown> => {
      const refusal = (await refusalOf(client, policy, { id })) as { code?: string; values?: unknown[] };
      return refusal.values ? refusal.values[0] : refusal.code;
    },
  },
  'run()': {
    operation: () => 'job',
    call: async (policy: PolicyName, id: string): Promise<unknown> => {
      const operation = { ...nameOf('job', id), payload: {}, ...POLICIES[policy] };
      const run = idempotency.run(operation, (context) => work({ id }, context, 'transaction' in POLICIES[policy]));
      return run.then(
        ({ value }) => value,
        (error: { code?: string }) => error.code,
      );
    },
  },
};

const UNKNOWN = 'idempotency_outcome_unknown';

async function thingsOf(id: string): Promise<number> {
  return (await dataSource.query<unknown[]>('SELECT FROM things WHERE item = $1', [id])).length;
}

describe.each(Object.entries(WAYS))('IndeterminateError thrown in %s', (how, way) => {
  const idOf = (policy: PolicyName): string => `${how} ${policy}`;
  const find = (policy: PolicyName) => idempotency.find(nameOf(way.operation(policy), idOf(policy)));
  const call = (policy: PolicyName) => way.call(policy, idOf(policy));

  it.each(['block', 'transaction block'] as const)(
    '%s: retries get outcome unknown until it is resolved; what was written is rolled back',
    async (policy) => {
      expect(await call(policy)).toBe(UNKNOWN);
      canTell = true;
      for (const _retry of [1, 2]) expect(await call(policy)).toBe(UNKNOWN);
      expect([runs.get(idOf(policy)), await thingsOf(idOf(policy))]).toEqual([1, 0]);
      const record = (await find(policy))!;
      expect([record.state, record.expiresAt]).toEqual(['abandoned', undefined]);

      const name = nameOf(way.operation(policy), idOf(policy));
      expect(await idempotency.resolve(name, 'rerun')).toBe(true);
      expect(await call(policy)).toEqual({ attempt: 2 });
      expect(await call(policy)).toEqual({ attempt: 2 });
      expect(await thingsOf(idOf(policy))).toBe(policy === 'block' ? 0 : 1);
    },
  );

  it.each(['rerun', 'transaction rerun'] as const)(
    '%s: outcome unknown the first time, and the next retry runs',
    async (policy) => {
      expect(await call(policy)).toBe(UNKNOWN);
      // It is not kept for a person to settle: nobody has to.
      expect((await find(policy))!.expiresAt).toBeInstanceOf(Date);
      expect(await thingsOf(idOf(policy))).toBe(0);
      canTell = true;
      expect(await call(policy)).toEqual({ attempt: 2 });
      expect(await thingsOf(idOf(policy))).toBe(policy === 'rerun' ? 0 : 1);
    },
  );

  it.each(['function', 'transaction function'] as const)(
    '%s: it is asked by each retry until it settles the outcome',
    async (policy) => {
      expect(await call(policy)).toBe(UNKNOWN);
      expect(asked).toEqual([]);
      canTell = true;
      expect(await call(policy)).toBe(UNKNOWN);
      expect(asked).toMatchObject([{ state: 'abandoned', attempt: 1 }]);
      said = { completed: { body: { settled: true } } };
      expect(await call(policy)).toEqual({ settled: true });
      expect(await call(policy)).toEqual({ settled: true });
      expect([asked.length, runs.get(idOf(policy)), await thingsOf(idOf(policy))]).toEqual([2, 1, 0]);
    },
  );
});

describe('a claim that ended without a word, and then a run in a transaction', () => {
  /** What a process leaves that dies with its claim, by what its operation was. */
  const died = async (transaction: boolean) => {
    const operation = { ...nameOf('job', `died ${transaction}`), payload: {} };
    const request = { recordKey: recordKeyOf(operation), fingerprint: fingerprintOfPayload(operation.payload) };
    const claimed = await store.claim({
      ...{ ...request, operation: 'job', claimToken: randomUUID(), leaseMs: 50, retentionMs: 60_000 },
      ...termsOfUnsettled({ transaction, afterCrash: 'block' }),
    });
    expect(claimed.kind).toBe('claimed');
    await new Promise((resolve) => setTimeout(resolve, 100));
    canTell = true;
    return idempotency.run({ ...operation, transaction: true }, (context) =>
      work({ id: operation.key }, context, true),
    );
  };

  it('runs again what was in a transaction: nothing of it was written', async () => {
    expect((await died(true)).value).toEqual({ attempt: 2 });
  });

  it('does not run again what was in none: its outcome is unknown, whatever the options say by now', async () => {
    await expect(died(false)).rejects.toMatchObject({ code: UNKNOWN });
    expect(runs.get('died false')).toBeUndefined();
  });
});
