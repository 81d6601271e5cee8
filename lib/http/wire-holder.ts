import type { OutgoingHttpHeaders } from 'node:http';
import type { CurrentHead, StreamSink } from './held-body.js';

/** A response as the application ended it, while it is held back. */
export interface HeldResponse {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  /** Undefined where the body outgrew the limit: its head has gone out and its end is held. */
  readonly body: Buffer | undefined;
}

/** Who holds the response. */
export interface WireHolder {
  /** The application has ended its response. */
  ended(held: HeldResponse): void;
  /** The application has torn its response down: what it was sending has failed. */
  failed(error: Error | undefined): void;
  /** The client has closed the connection. */
  left(): void;
  /** The application writes in pieces, `bytes` so far. Undefined: they are held and put together. */
  streams(head: CurrentHead, bytes: number): StreamSink | undefined;
}
