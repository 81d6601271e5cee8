import { Client } from 'undici';
import type { RoundResult, StreamRound } from './rounds.js';
import { Tally } from './tally.js';

const EVENT = 'data: ';

/** Reads many event streams at once, each on its own connection, to their ends. */
export async function runStreams(round: StreamRound): Promise<RoundResult> {
  const clients = Array.from({ length: round.streams }, () => new Client(round.url, { bodyTimeout: 60_000 }));
  try {
    const tally = new Tally();
    await Promise.all(clients.map((client, index) => readStream(client, `${round.prefix}-${index}`, round, tally)));
    return tally.result();
  } finally {
    await Promise.all(clients.map((client) => client.destroy()));
  }
}

function readStream(client: Client, key: string, { path, events }: StreamRound, tally: Tally): Promise<void> {
  return new Promise((done) => {
    const since = performance.now();
    const body = Buffer.from(JSON.stringify({ count: events }));
    let seen = 0;
    let rest = '';
    let status = 0;
    client.dispatch(
      { method: 'POST', path, headers: ['content-type', 'application/json', 'idempotency-key', key], body },
      {
        onRequestStart: () => undefined,
        onResponseStart: (_controller, answered) => {
          status = answered;
        },
        onResponseData: (_controller, chunk) => {
          const text = rest + chunk.toString('latin1');
          let found = 0;
          for (let at = text.indexOf(EVENT); at >= 0; at = text.indexOf(EVENT, at + EVENT.length)) found += 1;
          seen += found;
          // A piece may end within the word, never with all of it still to be counted.
          rest = text.slice(1 - EVENT.length);
          if (found > 0) tally.arrived(found);
        },
        onResponseEnd: () => {
          if (seen !== events) tally.failed(`status ${status}, ${seen} events of ${events}`);
          else tally.arrived(0, since);
          done();
        },
        onResponseError: (_controller, error) => {
          tally.failed(`${error.message} after ${seen} events`);
          done();
        },
      },
    );
  });
}
