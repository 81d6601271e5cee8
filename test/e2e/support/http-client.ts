import { Agent, request, type IncomingHttpHeaders } from 'node:http';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  text: string;
  json: <T = Record<string, unknown>>() => T;
}

export interface Sent {
  method?: string;
  headers?: Record<string, string | string[]>;
  body?: unknown;
  agent?: Agent;
}

/** One HTTP request with nothing added but what is given: Node's own client, no retries, no decoding. */
export function send(url: string, { method = 'POST', headers = {}, body, agent }: Sent = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const bytes =
      body === undefined
        ? undefined
        : Buffer.isBuffer(body)
          ? body
          : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    const req = request(
      url,
      {
        method,
        agent: agent ?? new Agent({ keepAlive: false }),
        headers: {
          ...(bytes
            ? { 'content-type': 'application/json', 'content-length': String(bytes.byteLength) }
            : { 'content-length': '0' }),
          ...headers,
        },
      },
      (res) => {
        const chunks: Buffer[] = [];
        res.on('data', (chunk: Buffer) => chunks.push(chunk));
        res.on('error', reject);
        res.on('end', () => {
          if (!res.complete) return reject(new Error('the response was cut'));
          const all = Buffer.concat(chunks);
          resolve({
            status: res.statusCode!,
            headers: res.headers,
            body: all,
            text: all.toString(),
            json: () => JSON.parse(all.toString()) as never,
          });
        });
      },
    );
    req.on('error', reject);
    req.end(bytes);
  });
}

/** Sends and drops the connection after `ms`, or when `until` has come true. */
export function sendAndLeave(
  url: string,
  { method = 'POST', headers = {}, body }: Sent,
  until: () => boolean | Promise<boolean>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const bytes = Buffer.from(JSON.stringify(body ?? {}));
    const req = request(url, {
      method,
      agent: new Agent({ keepAlive: false }),
      headers: { 'content-type': 'application/json', 'content-length': String(bytes.byteLength), ...headers },
    });
    req.on('error', () => undefined);
    req.on('close', resolve);
    req.end(bytes);
    void eventually(until, 'the moment to leave').then(() => req.destroy(), reject);
  });
}

/** Asks until it is true, for ten seconds at most. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  ms = 10_000,
): Promise<void> {
  const until = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > until) throw new Error(`waited ${ms} ms in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
