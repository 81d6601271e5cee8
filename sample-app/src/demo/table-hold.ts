import pg from 'pg';

export interface TableHold {
  /** Whether somebody else waits to write into it. */
  isWaitedFor(): Promise<boolean>;
  letGo(): Promise<void>;
}

/** Keeps everybody from writing into a table, so that a transaction stands still in its middle. */
export async function holdTable(databaseUrl: string, table: string): Promise<TableHold> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query(`BEGIN; LOCK TABLE ${table} IN SHARE MODE`);
  return {
    async isWaitedFor() {
      const waiting = 'SELECT FROM pg_locks WHERE NOT granted AND relation = $1::regclass';
      return (await client.query(waiting, [table])).rows.length > 0;
    },
    async letGo() {
      await client.query('ROLLBACK');
      await client.end();
    },
  };
}
