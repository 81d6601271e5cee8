import pg from 'pg';
import type { RoundResult } from '../load/rounds.js';
import { Tally } from '../load/tally.js';
import { learnStatements, nextPair, type SentStatements } from './statements.js';

export interface PairsRound {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
}

let learnt: SentStatements | undefined;

/**
 * The driver's limit: a claim and its completion, prepared, one by one in a bare loop over some
 * connections. No HTTP, no library; what is left is the driver, the wire and the server.
 */
export async function runPairs({ url, connections, seconds }: PairsRound): Promise<RoundResult> {
  learnt ??= await learnStatements(url);
  const { claim, complete } = learnt;
  const clients = await Promise.all(Array.from({ length: connections }, () => connect(url)));
  try {
    const tally = new Tally();
    const until = performance.now() + seconds * 1_000;
    const loop = async (client: pg.Client): Promise<void> => {
      while (performance.now() < until) {
        const since = performance.now();
        const values = nextPair(learnt!);
        const claimed = await client.query({ name: 'claim', text: claim.text, values: values.claim });
        const completed = await client.query({ name: 'complete', text: complete.text, values: values.complete });
        if (claimed.rowCount === 1 && completed.rowCount === 1) tally.arrived(1, since);
        else tally.failed(`claimed ${claimed.rowCount}, completed ${completed.rowCount}`);
      }
    };
    await Promise.all(clients.map(loop));
    return tally.result();
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

/** For tools that send the statements by themselves. */
export async function statements({ url }: { readonly url: string }): Promise<SentStatements> {
  return (learnt ??= await learnStatements(url));
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}
