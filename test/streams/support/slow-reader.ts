import { Agent, request, type IncomingMessage } from 'node:http';
import { buffer } from 'node:stream/consumers';
import type { StreamRequest } from './streaming-apps.js';

export interface UnreadResponse {
  /** Reads it to its end; rejects where it was cut. */
  read(): Promise<Buffer>;
}

/** Asks for a stream and reads no more of it than its head. */
export function openUnread(url: string, path: string, { key, body }: StreamRequest): Promise<UnreadResponse> {
  const bytes = JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': bytes.length, 'idempotency-key': key };
    const sent = request(`${url}/s/${path}`, { method: 'POST', agent: new Agent({ keepAlive: false }), headers });
    sent.on('error', reject);
    sent.on('response', (response: IncomingMessage) => resolve({ read: () => buffer(response) }));
    sent.end(bytes);
  });
}
