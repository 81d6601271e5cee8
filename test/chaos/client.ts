import { Agent, request, type IncomingMessage } from 'node:http';
import { digestOf } from './digest.js';
import { subjectOf, type Answer, type RequestEvent } from './checker/history.js';
import { NOT_WRITTEN } from './app/purchases.js';
import { machineNow } from './app/settings.js';
import { OPERATIONS, type Operation } from './workload.js';

/** A secret that clients send and that must not turn up anywhere. */
export const PLANTED_SECRET = 'Bearer planted-authorization';

interface Received {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** Sends requests as an HTTP client would, and notes what came back in the words of the checker. */
export class Client {
  private readonly agents = new Map<number, Agent>();

  constructor(private readonly timeoutMs: number) {}

  /** Undefined where nobody listened at that port: then there was no request. */
  async send(operation: Operation, server: string, port: number, op: string): Promise<RequestEvent | undefined> {
    const { route, tenant, key, body } = operation;
    const from = machineNow();
    let answer: Answer;
    try {
      answer = classify(await this.post(port, route, { tenant, key, op }, JSON.stringify(body)), operation);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return undefined;
      answer = { kind: 'lost' };
    }
    const subject = subjectOf(OPERATIONS[route], tenant, key);
    return { type: 'request', op, subject, payload: JSON.stringify(body), server, from, to: machineNow(), answer };
  }

  close(): void {
    for (const agent of this.agents.values()) agent.destroy();
  }

  private post(
    port: number,
    route: string,
    { tenant, key, op }: { tenant: string; key: string; op: string },
    body: string,
  ): Promise<Received> {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'idempotency-key': `"${key}"`,
      'x-tenant': tenant,
      'x-op': op,
      authorization: PLANTED_SECRET,
    };
    return new Promise((resolve, reject) => {
      const options = {
        host: '127.0.0.1',
        port,
        path: `/${route}`,
        method: 'POST',
        headers,
        agent: this.agentOf(port),
      };
      const sent = request(options, (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.once('error', reject);
        response.once('end', () => {
          if (!response.complete) return reject(new Error('cut off'));
          resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(pieces).toString() });
        });
        response.once('close', () => reject(new Error('cut off')));
      });
      const timer = setTimeout(() => sent.destroy(new Error('no answer in time')), this.timeoutMs);
      sent.once('close', () => clearTimeout(timer));
      sent.once('error', reject);
      sent.end(body);
    });
  }

  private agentOf(port: number): Agent {
    let agent = this.agents.get(port);
    if (!agent) this.agents.set(port, (agent = new Agent({ keepAlive: true, maxSockets: 64 })));
    return agent;
  }
}

interface AnswerBody {
  readonly run?: number;
  readonly mark?: string;
  readonly code?: string;
  readonly message?: string;
}

function classify({ status, headers, body }: Received, { body: { kind } }: Operation): Answer {
  let read: AnswerBody = {};
  try {
    read = JSON.parse(body) as AnswerBody;
  } catch {
    // Not JSON: whatever it is, it is odd.
  }
  if (read.run !== undefined && read.mark !== undefined && (status < 300 || status === 402)) {
    const digest = digestOf(status, (name) => headers[name] as string | undefined, body);
    const replayed = headers['idempotent-replayed'] === 'true';
    return { kind: 'answered', status, digest, run: read.run, replayed, mark: read.mark };
  }
  switch (read.code) {
    case 'idempotency_key_reused':
      return { kind: 'reused' };
    case 'idempotency_in_progress':
      return { kind: 'in_progress' };
    case 'idempotency_outcome_unknown':
      return { kind: 'unknown' };
    case 'idempotency_response_not_kept':
      return { kind: 'not_kept' };
    case 'idempotency_store_unavailable':
      return { kind: 'unavailable' };
    default:
  }
  if (status === 500 && kind === 'broken') return { kind: 'failed' };
  if (status === 500 && read.message === NOT_WRITTEN) return { kind: 'unwritten' };
  if (status === 500 && kind === 'poison') return { kind: 'unsent' };
  return { kind: 'odd', what: `${status} ${body.slice(0, 200)}` };
}
