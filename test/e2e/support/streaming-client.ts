import { Agent, request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';

export interface SseEvent {
  id?: string;
  event?: string;
  data: string;
}

/** A response that is read as it comes, and can be left in the middle. */
export class LiveResponse {
  private chunks: Buffer[] = [];
  ended = false;
  cut = false;

  constructor(
    readonly status: number,
    readonly headers: IncomingHttpHeaders,
    private readonly res: IncomingMessage,
  ) {
    res.on('data', (chunk: Buffer) => this.chunks.push(chunk));
    res.on('end', () => (this.ended = true));
    res.on('error', () => undefined);
    res.on('close', () => (this.cut = !res.complete));
  }

  /** What has arrived so far. */
  get bytes(): Buffer {
    if (this.chunks.length > 1) this.chunks = [Buffer.concat(this.chunks)];
    return this.chunks[0] ?? Buffer.alloc(0);
  }

  get text(): string {
    return this.bytes.toString();
  }

  /** The events that have arrived whole. */
  get events(): SseEvent[] {
    return parseEvents(this.text);
  }

  leave(): void {
    this.res.destroy();
  }

  pause(): void {
    this.res.pause();
  }
  resume(): void {
    this.res.resume();
  }

  /** Resolves when the response is over, whole or cut. */
  async over(ms = 20_000): Promise<this> {
    const until = Date.now() + ms;
    while (!this.ended && !this.res.destroyed && !this.cut) {
      if (Date.now() > until)
        throw new Error(`the response is not over after ${ms} ms; it has ${this.bytes.length} bytes`);
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    return this;
  }
}

export function parseEvents(text: string): SseEvent[] {
  return text
    .split('\n\n')
    .slice(0, -1)
    .map((frame) => frame.split('\n').filter((line) => line !== '' && !line.startsWith(':')))
    .filter((lines) => lines.length > 0)
    .map((lines) => {
      const field = (name: string): string[] =>
        lines.filter((l) => l.startsWith(`${name}: `)).map((l) => l.slice(name.length + 2));
      const [id] = field('id');
      const [event] = field('event');
      return {
        ...(id === undefined ? {} : { id }),
        ...(event === undefined ? {} : { event }),
        data: field('data').join('\n'),
      };
    });
}

/** Opens a response and gives it back as soon as its head is there. */
export function open(
  url: string,
  { method = 'POST', headers = {}, body }: { method?: string; headers?: Record<string, string>; body?: unknown } = {},
): Promise<LiveResponse> {
  return new Promise((resolve, reject) => {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const req = request(
      url,
      {
        method,
        agent: new Agent({ keepAlive: false }),
        headers: {
          accept: 'text/event-stream',
          ...(bytes ? { 'content-type': 'application/json', 'content-length': String(bytes.byteLength) } : {}),
          ...headers,
        },
      },
      (res) => resolve(new LiveResponse(res.statusCode!, res.headers, res)),
    );
    req.on('error', reject);
    req.end(bytes);
  });
}
