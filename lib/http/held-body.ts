import type { OutgoingHttpHeaders } from 'node:http';

/** Takes the pieces of a response that is written in pieces. */
export interface StreamSink {
  /** False: the application should wait for `drain`. */
  write(bytes: Buffer): boolean;
  /** As `write`, for a piece that came as text and is UTF-8 on the wire. Absent where text is of no use. */
  writeText?(text: string): boolean;
  end(): void;
}

/** What `write` without an encoding means, too. */
export function isUtf8(encoding: BufferEncoding | null | undefined): boolean {
  return encoding == null || encoding === 'utf8' || encoding === 'utf-8';
}

/** Status and headers as they stand. */
export interface CurrentHead {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
}

/**
 * A body that is complete after this time, and no larger than this, is recorded as one answer (a file
 * from memory is written in two pieces as well); any other is a stream.
 */
const STREAM_AFTER_MS = 10;
const STREAM_ABOVE_BYTES = 64 * 1024;

export interface HeldBodyEvents {
  readonly head: () => CurrentHead;
  /** Asked once the body turns out to be a stream, with the bytes that are held of it. Undefined: nobody takes the pieces; they are held like any other body. */
  readonly streams: (head: CurrentHead, bytes: number) => StreamSink | undefined;
  /** The body is too large to hold. What is held goes out, and the rest as it comes, but for the end; false as of a stream's `write`. */
  readonly sendOut: (bytes: Buffer) => boolean;
}

/** What the application has written of a body so far: held whole, handed on in pieces, or too large for either. */
export class HeldBody {
  sink: StreamSink | undefined;
  /** Whether it was too large: all but the end of it is out. */
  outgrown = false;
  private chunks: Buffer[] = [];
  private bytes = 0;
  private timer: NodeJS.Timeout | undefined;
  private isOver = false;

  constructor(
    private readonly limit: number,
    private readonly on: HeldBodyEvents,
  ) {}

  get isEmpty(): boolean {
    return this.bytes === 0;
  }

  /** Everything that is held, which nobody has taken. */
  takeAll(): Buffer {
    const all = Buffer.concat(this.chunks);
    this.chunks = [];
    return all;
  }

  /** As `takeAll`, and it stays. */
  peekAll(): Buffer {
    return Buffer.concat(this.chunks);
  }

  /** Takes a piece. False: the application should wait for `drain`. */
  write(piece: Buffer, isLast: boolean): boolean {
    if (this.sink) return this.sink.write(piece);
    this.chunks.push(piece);
    this.bytes += piece.byteLength;
    if (this.outgrown) return this.sendOn();
    if (!isLast && this.becomesStream()) {
      const room = this.startSink();
      if (room !== undefined) return room;
    }
    if (this.bytes <= this.limit) return true;
    this.outgrown = true;
    return this.sendOn();
  }

  /**
   * Too large to keep: only the end waits for the record. Memory stays bounded whatever the size. Where the
   * length is announced, the client takes the last byte for the end, so the piece that has it waits as well.
   */
  private sendOn(): boolean {
    const announced = Number(this.on.head().headers['content-length'] ?? Infinity);
    return this.bytes >= announced || this.on.sendOut(this.takeAll());
  }

  /** Nothing will be written any more. */
  end(): void {
    this.isOver = true;
    clearTimeout(this.timer);
  }

  private becomesStream(): boolean {
    const type = String(this.on.head().headers['content-type'] ?? '');
    if (type.startsWith('text/event-stream') || this.bytes > STREAM_ABOVE_BYTES) return true;
    this.timer ??= setTimeout(() => this.startSink(), STREAM_AFTER_MS);
    return false;
  }

  /** Undefined where nobody takes the pieces. */
  startSink(): boolean | undefined {
    clearTimeout(this.timer);
    if (this.sink || this.outgrown || this.isOver) return undefined;
    this.sink = this.on.streams(this.on.head(), this.bytes);
    if (!this.sink) return undefined;
    const held = this.chunks;
    this.chunks = [];
    let room = true;
    for (const chunk of held) room = this.sink.write(chunk);
    return room;
  }
}
