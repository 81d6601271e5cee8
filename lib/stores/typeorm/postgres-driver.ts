import type { DataSource } from 'typeorm';
import { IdempotencyConfigError } from '../../core/errors.js';
import type { Row } from './record-row.js';

/*
 * The parts of `pg` that the store uses, as shapes: the module is the one that the DataSource has
 * loaded, so it is neither imported here nor does the package's declaration need its types.
 */

export interface PgQuery {
  readonly text: string;
  readonly values?: readonly unknown[];
  readonly name?: string | undefined;
  readonly query_timeout?: number;
}

export interface PgClient {
  readonly host?: string;
  readonly port?: number;
  /** The socket, to be cut where a polite goodbye would wait for a peer that is gone. */
  readonly connection?: { readonly stream?: { destroy?(): void } };
  connect(): Promise<unknown>;
  query(query: PgQuery): Promise<{ readonly rows: readonly Row[] }>;
  end(): Promise<void>;
  unref?(): void;
  on(event: string, listener: (argument: never) => void): unknown;
}

export interface PgPoolClient extends PgClient {
  release(destroy?: boolean): void;
}

export interface PgPool {
  connect(): Promise<PgPoolClient>;
  end(): Promise<void>;
  on(event: string, listener: (argument: never) => void): unknown;
}

type PgOptions = Readonly<Record<string, unknown>>;

interface Pg {
  readonly Pool: new (options: PgOptions) => PgPool;
  readonly Client: new (options: PgOptions) => PgClient;
}

/** Makes connections of our own to the server that the DataSource writes to. */
export interface PostgresConnector {
  pool(size: number, connectMs: number): PgPool;
  client(connectMs: number): PgClient;
  /** `host:port`, for messages. Never a password. */
  readonly address: string;
}

/**
 * Reads from an initialised DataSource how it connects. With `replication` this is the primary: a
 * replica may not know yet of a record that has been acknowledged.
 */
export function postgresConnector(dataSource: DataSource): PostgresConnector {
  const driver = dataSource.driver as unknown as {
    readonly postgres?: Pg;
    readonly master?: { readonly options: PgOptions };
  };
  const { postgres, master } = driver;
  if (!postgres || !master) {
    throw new IdempotencyConfigError(
      'typeormStore: the DataSource is not initialised. Call `await dataSource.initialize()` before the store is used (TypeOrmModule does so unless `manualInitialization` is set).',
    );
  }
  const given = master.options;
  const name = typeof given['application_name'] === 'string' ? `${given['application_name']} ` : '';
  const options = {
    ...given,
    // pg hides it from enumeration, so that it is not logged; a spread does not see it either.
    password: given['password'],
    application_name: `${name}idempotency`,
    keepAlive: true,
    query_timeout: undefined,
    // The application may have installed parsers of its own for bigint or timestamps, for all of pg.
    types: { getTypeParser: () => (value: unknown) => value },
  };
  const { host = 'localhost', port = 5432 } = new postgres.Client(options);
  return {
    address: host.startsWith('/') ? `${host} (port ${port})` : `${host}:${port}`,
    pool: (max, connectMs) =>
      new postgres.Pool({
        ...options,
        ...{ max, min: 0, connectionTimeoutMillis: connectMs, idleTimeoutMillis: 60_000 },
        // A plan that was made while the table was empty does not outlive it by more than so many statements.
        maxUses: 5_000,
        // An idle connection of ours must not keep a script from ending.
        allowExitOnIdle: true,
      }),
    client: (connectMs) => new postgres.Client({ ...options, connectionTimeoutMillis: connectMs }),
  };
}
