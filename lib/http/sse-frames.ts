import { StringDecoder } from 'node:string_decoder';

const FRAME_END = /\r\n\r\n|\n\n|\r\r/;
const LINE_END = /\r\n|\n|\r/;

/**
 * Cuts what goes over the wire of an event stream into its frames (messages and comments), however it
 * was cut into pieces on the way, and gives each message an id of ours in place of its own: a cursor
 * from which the stream can be resumed. Comments have none.
 */
export class SseFrames {
  private readonly decoder = new StringDecoder('utf8');
  private rest = '';

  /** The frames that are complete now; each ends with a blank line. */
  push(bytes: Uint8Array): string[] {
    this.rest += this.decoder.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    const frames: string[] = [];
    for (;;) {
      // A lone line feed before the first frame (Nest sends one to get the head out) belongs to no frame.
      const body = this.rest.replace(/^[\r\n]+/, '');
      const match = FRAME_END.exec(body);
      if (!match) {
        // A line end may be cut in two (`\r` here, `\n` to come): look again when there is more.
        this.rest = body === '' ? '' : this.rest;
        return frames;
      }
      frames.push(body.slice(0, match.index + match[0].length));
      this.rest = body.slice(match.index + match[0].length);
    }
  }

  /** What came after the last complete frame: the source ended in the middle of one. */
  flush(): string {
    const rest = this.rest + this.decoder.end();
    this.rest = '';
    return rest.replace(/^[\r\n]+/, '');
  }
}

/** The frame with this id, or as it is where it is only a comment. */
export function withId(frame: string, id: string): string {
  const lines = frame.split(LINE_END).filter((line) => line !== '');
  if (lines.every((line) => line.startsWith(':'))) return `${lines.join('\n')}\n\n`;
  const others = lines.filter((line) => line !== 'id' && !line.startsWith('id:'));
  return `id: ${id}\n${others.join('\n')}\n\n`;
}

/** A message of the library's own, at the end of a stream that did not end by itself. */
export function endFrame(name: string, id: string, data: Readonly<Record<string, unknown>>): string {
  return `id: ${id}\nevent: idempotency.${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
