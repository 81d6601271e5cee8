import { inspect } from 'node:util';
import type { DataSource } from 'typeorm';
import { IdempotencyConfigError, IdempotencyStoreError } from '../../lib/core/errors.js';
import type { IdempotencyStore } from '../../lib/core/store.js';
import { typeormStore, type TypeormStoreOptions } from '../../lib/stores/typeorm/index.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres.js';
import { connectedDataSource, noContainer, storeOver } from './data-sources.js';
import { startProxy } from '../support/tcp-proxy.js';

let database: TestDatabase;
let dataSource: DataSource;

beforeAll(async () => {
  database = await createTestDatabase('boot');
});

afterAll(() => database.drop());

beforeEach(async () => {
  dataSource = await connectedDataSource(database.url, { dropSchema: true });
});

afterEach(async () => {
  if (dataSource.isInitialized) await dataSource.destroy();
});

async function startOver(source: DataSource, options: TypeormStoreOptions = {}): Promise<unknown> {
  const store = await storeOver(source, options);
  try {
    await store.start?.();
    return 'started';
  } catch (error) {
    return error;
  } finally {
    await store.stop?.();
  }
}

/** The boot's refusal, which must be about the configuration. */
async function refusal(source = dataSource, options: TypeormStoreOptions = {}): Promise<string> {
  const outcome = await startOver(source, options);
  expect(outcome).toBeInstanceOf(IdempotencyConfigError);
  return (outcome as Error).message;
}

it('starts over a table as the migration makes it', async () => {
  expect(await startOver(dataSource)).toBe('started');
});

describe('the table', () => {
  it('must be there', async () => {
    await dataSource.query('DROP TABLE idempotency_records');
    expect(await refusal()).toMatch(
      /"idempotency_records" does not exist.*CreateIdempotencyRecords1764000000000.*SQL file.*IdempotencyRecordEntity.*search_path/,
    );
    expect(await refusal(dataSource, { table: 'seen', schema: 'nowhere' })).toMatch(/"nowhere"."seen" does not exist/);
  });

  it('must be a table', async () => {
    await dataSource.query('CREATE VIEW seen AS SELECT * FROM idempotency_records');
    expect(await refusal(dataSource, { table: 'seen' })).toMatch(/"seen" is no table/);
  });

  it('must have all columns', async () => {
    await dataSource.query('ALTER TABLE idempotency_records DROP COLUMN prior, DROP COLUMN not_kept');
    expect(await refusal()).toMatch(/lacks the column\(s\) prior, not_kept.*migrations/);
  });

  it('must have them of the right type', async () => {
    await dataSource.query('ALTER TABLE idempotency_records ALTER COLUMN lease_until TYPE timestamp');
    expect(await refusal()).toMatch(/lease_until .* timestamp without time zone .* timestamp with time zone/);
  });

  it('must not ask for values that the library does not know', async () => {
    await dataSource.query('ALTER TABLE idempotency_records ADD COLUMN note text NOT NULL');
    expect(await refusal()).toMatch(/column\(s\) note/);
    await dataSource.query(`ALTER TABLE idempotency_records ALTER COLUMN note SET DEFAULT ''`);
    expect(await startOver(dataSource)).toBe('started');
  });

  it('must survive a crash', async () => {
    await dataSource.query('ALTER TABLE idempotency_records SET UNLOGGED');
    expect(await refusal()).toMatch(/UNLOGGED.*SET LOGGED/);
  });

  it('must survive it with all its partitions', async () => {
    await dataSource.query('CREATE TABLE seen (LIKE idempotency_records INCLUDING ALL) PARTITION BY HASH (record_key)');
    await dataSource.query('CREATE TABLE seen_0 PARTITION OF seen FOR VALUES WITH (MODULUS 2, REMAINDER 0)');
    await dataSource.query('CREATE UNLOGGED TABLE seen_1 PARTITION OF seen FOR VALUES WITH (MODULUS 2, REMAINDER 1)');
    expect(await refusal(dataSource, { table: 'seen' })).toMatch(/UNLOGGED/);
    await dataSource.query('ALTER TABLE seen_1 SET LOGGED');
    for (const log of ['events', 'steps']) {
      await dataSource.query(`CREATE TABLE seen_${log} (LIKE idempotency_records_${log} INCLUDING ALL)`);
    }
    expect(await startOver(dataSource, { table: 'seen' })).toBe('started');
  });

  it.each([
    ['none', ''],
    ['one over more columns', 'CREATE UNIQUE INDEX ON idempotency_records (record_key, state)'],
    ['one with a condition', 'CREATE UNIQUE INDEX ON idempotency_records (record_key) WHERE attempt > 1'],
    ['a plain index', 'CREATE INDEX ON idempotency_records (record_key)'],
    ['a deferrable one', 'ALTER TABLE idempotency_records ADD UNIQUE (record_key) DEFERRABLE'],
  ])('must have a unique constraint on the key, not %s', async (_title, instead) => {
    await dataSource.query('ALTER TABLE idempotency_records DROP CONSTRAINT "PK_cbec2fb34d760b568501976fd2b"');
    if (instead) await dataSource.query(instead);
    expect(await refusal()).toMatch(/no unique constraint on record_key.*ADD PRIMARY KEY/);
    await dataSource.query('CREATE UNIQUE INDEX ON idempotency_records (record_key)');
    expect(await startOver(dataSource)).toBe('started');
  });
});

describe.each([
  ['events', 'last_seq', 'stream_id and last_seq', 'stream_id, last_seq, sizes'],
  ['steps', 'name_hash', 'record_id and name_hash', 'record_id'],
])('the table of %s', (log, column, key, otherKey) => {
  const table = `idempotency_records_${log}`;

  it('must be there', async () => {
    await dataSource.query(`DROP TABLE ${table}`);
    expect(await refusal()).toMatch(
      new RegExp(`"${table}" does not exist.*CreateIdempotencyRecords1764000000000.*SQL file.*idempotencyEntities`),
    );
  });

  it('must have all columns, of the right types', async () => {
    await dataSource.query(`ALTER TABLE ${table} ALTER COLUMN ${column} TYPE text`);
    expect(await refusal()).toMatch(new RegExp(`column ${column} of "${table}" is text and must be `));
    await dataSource.query(`ALTER TABLE ${table} DROP COLUMN ${column}`);
    expect(await refusal()).toMatch(new RegExp(`"${table}" lacks the column\\(s\\) ${column}`));
  });

  it('must survive a crash', async () => {
    await dataSource.query(`ALTER TABLE ${table} SET UNLOGGED`);
    expect(await refusal()).toMatch(/UNLOGGED.*SET LOGGED/);
  });

  it('must have its unique key, over these columns in any order and no other', async () => {
    const [{ name }] = (await dataSource.query(
      `SELECT conname AS name FROM pg_constraint WHERE conrelid = '${table}'::regclass AND contype = 'p'`,
    )) as [{ name: string }];
    await dataSource.query(`ALTER TABLE ${table} DROP CONSTRAINT "${name}"`);
    for (const other of [column, otherKey]) {
      await dataSource.query(`CREATE UNIQUE INDEX other_key ON ${table} (${other})`);
      expect(await refusal()).toMatch(new RegExp(`"${table}" has no unique constraint on ${key} alone`));
      await dataSource.query('DROP INDEX other_key');
    }
    await dataSource.query(`CREATE UNIQUE INDEX ON ${table} (${key.split(' and ').toReversed().join(', ')})`);
    expect(await startOver(dataSource)).toBe('started');
  });
});

describe('the role', () => {
  let asRole: DataSource;
  const role = 'idempotency_boot_role';

  beforeEach(async () => {
    await dataSource.query(`DROP ROLE IF EXISTS ${role}`);
    await dataSource.query(`CREATE ROLE ${role} LOGIN`);
    const url = new URL(database.url);
    url.username = role;
    asRole = await connectedDataSource(url.href, { migrationsRun: false });
  });

  afterEach(async () => {
    await asRole.destroy();
    await dataSource.query(`DROP OWNED BY ${role}`);
    await dataSource.query(`DROP ROLE ${role}`);
  });

  it('must be allowed all that the store does', async () => {
    await dataSource.query(`GRANT SELECT, INSERT ON idempotency_records TO ${role}`);
    expect(await refusal(asRole)).toMatch(new RegExp(`${role} may not UPDATE, DELETE.*GRANT`));
    await dataSource.query(`GRANT UPDATE, DELETE ON idempotency_records TO ${role}`);
    expect(await refusal(asRole)).toMatch(new RegExp(`${role} may not SELECT.* "idempotency_records_events"`));
    await dataSource.query(`GRANT ALL ON idempotency_records_events, idempotency_records_steps TO ${role}`);
    expect(await startOver(asRole)).toBe('started');
  });

  it('must be allowed into the schema', async () => {
    await dataSource.query('DROP SCHEMA IF EXISTS closed CASCADE');
    await dataSource.query('CREATE SCHEMA closed');
    await dataSource.query('CREATE TABLE closed.seen (LIKE idempotency_records INCLUDING ALL)');
    expect(await refusal(asRole, { table: 'seen', schema: 'closed' })).toMatch(/GRANT USAGE|does not exist/);
    await dataSource.query('DROP SCHEMA closed CASCADE');
  });

  it('must see every row', async () => {
    await dataSource.query(`GRANT ALL ON idempotency_records TO ${role}`);
    await dataSource.query('ALTER TABLE idempotency_records ENABLE ROW LEVEL SECURITY');
    expect(await refusal(asRole)).toMatch(/row-level security.*DISABLE ROW LEVEL SECURITY/);
  });

  it('must be able to write at all', async () => {
    await dataSource.query(`GRANT ALL ON idempotency_records TO ${role}`);
    await dataSource.query(`ALTER ROLE ${role} SET default_transaction_read_only = on`);
    expect(await refusal(asRole)).toMatch(/read-only.*default_transaction_read_only/);
  });
});

describe('the server', () => {
  it('must be the primary', async () => {
    // The connection is made to hear what a replica would say.
    await dataSource.query('CREATE SCHEMA replica');
    await dataSource.query(`CREATE FUNCTION replica.pg_is_in_recovery() RETURNS boolean RETURN true`);
    const extra = { options: '-c search_path=replica,pg_catalog,public' };
    const replica = await connectedDataSource(database.url, { migrationsRun: false, extra });
    expect(await refusal(replica)).toMatch(/replica \(pg_is_in_recovery\).*primary.*replication\.master/);
    await replica.destroy();
    await dataSource.query('DROP SCHEMA replica CASCADE');
  });

  it('that cannot be reached is named, and the password is not', async () => {
    const proxy = await startProxy(Number(new URL(database.url).port));
    const url = new URL(database.url);
    url.port = String(proxy.port);
    url.password = 'very-secret';
    const throughProxy = await connectedDataSource(url.href);
    await proxy.refuse(true);
    proxy.cutAll();
    const outcome = await startOver(throughProxy);
    expect(outcome).toBeInstanceOf(IdempotencyStoreError);
    expect((outcome as Error).message).toContain(`127.0.0.1:${proxy.port}`);
    expect(printed(outcome)).not.toContain('very-secret');
    await throughProxy.destroy();
    await proxy.close();
  });

  it('that refuses the database is a matter of configuration', async () => {
    const gone = await createTestDatabase('boot, gone');
    const there = await connectedDataSource(gone.url);
    await gone.drop();
    expect(await refusal(there)).toMatch(/refuses the DataSource's credentials or database/);
    await there.destroy();
  });
});

describe('the options', () => {
  it.each([0, -1, 1.5, 101, NaN])('refuse a pool of %s', (poolSize) => {
    expect(() => typeormStore({ poolSize })).toThrow(/poolSize must be a whole number/);
  });

  it('refuse a deadline that is no duration', () => {
    expect(() => typeormStore({ deadline: 'soon' as '2s' })).toThrow(/typeormStore: deadline: 'soon'/);
  });

  it.each(['mysql', 'mariadb', 'better-sqlite3', 'cockroachdb'] as const)('refuse a %s DataSource', async (type) => {
    const other = { options: { type }, driver: {} } as unknown as DataSource;
    await expect(storeOver(other)).rejects.toThrow(
      new RegExp(`type is '${type}'.*only 'postgres'.*silently lose their condition`),
    );
    await expect(storeOver(other)).rejects.toBeInstanceOf(IdempotencyConfigError);
  });

  it('refuse a DataSource that is not initialised: at boot by its name, in a call as a store that is down', async () => {
    await dataSource.destroy();
    expect(await refusal()).toMatch(/not initialised.*initialize\(\)/);
    const store: IdempotencyStore = await storeOver(dataSource);
    await expect(store.find('A'.repeat(43))).rejects.toBeInstanceOf(IdempotencyStoreError);
    await expect(store.purge(1)).rejects.toThrow(/not initialised/);
    await store.stop?.();
  });

  it('say what to write when the application has no DataSource', async () => {
    await expect(typeormStore().createStore(noContainer)).rejects.toThrow(/no DataSource\. Import TypeOrmModule/);
    await expect(typeormStore({ dataSource: 'audit' }).createStore(noContainer)).rejects.toThrow(
      /no DataSource named 'audit'/,
    );
  });
});

/** Everything of a value that a logger could print. */
function printed(value: unknown): string {
  return inspect(value, { depth: 10, showHidden: false, getters: false });
}
