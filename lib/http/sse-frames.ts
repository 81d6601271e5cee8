import { StringDecoder } from 'node:string_decoder';

/** Two line ends after each other, of whatever kind; `\r\n` is one, also where its second half is still to come. */
const FRAME_END = /(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)/g;
const LINE_END = /\r\n|\n|\r/;

/** A frame's end that is cut in two begins at most so many characters before the next piece. */
const LONGEST_FRAME_END = 4;

/**
 * Cuts what goes over the wire of an event stream into its frames (messages and comments), however it
 * was cut into pieces on the way, and gives each message an id of ours in place of its own: a cursor
 * from which the stream can be resumed. Comments have none.
 */
export class SseFrames {
  private readonly decoder = new StringDecoder('utf8');
  /** What belongs to no complete frame so far, in pieces: a frame of megabytes is put together once. */
  private pieces: string[] = [];
  private length = 0;
  /** The last characters of the pieces, in which a frame's end may have begun. */
  private tail = '';
  private isFirst = true;
  /** Whether bytes came, of which the decoder may hold the first of a character. */
  private sawBytes = false;

  /** How many characters wait for the end of their frame. */
  get waiting(): number {
    return this.length;
  }

  /** The frames that are complete now; each ends with a blank line. */
  push(bytes: Uint8Array): string[] {
    this.sawBytes = true;
    return this.take(bytes);
  }

  /** As `push`. A piece that is one whole frame, as Nest writes them, is taken as it is. */
  pushText(text: string): string[] {
    if (this.length === 0 && !this.isFirst && !this.sawBytes && isWholeFrame(text)) return [text];
    // By way of bytes: that is what becomes of text that was cut within a character.
    return this.take(Buffer.from(text));
  }

  private take(bytes: Uint8Array): string[] {
    const text = this.decoder.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    if (text !== '') this.keep(this.withoutMark(text));
    FRAME_END.lastIndex = 0;
    if (!FRAME_END.test(this.tail)) {
      this.tail = this.tail.slice(-LONGEST_FRAME_END);
      return [];
    }
    const frames: string[] = [];
    const all = this.takeAll();
    let start = 0;
    FRAME_END.lastIndex = 0;
    for (let match = FRAME_END.exec(all); match; match = FRAME_END.exec(all)) {
      frames.push(all.slice(start, FRAME_END.lastIndex));
      start = FRAME_END.lastIndex;
      while (all[start] === '\n' || all[start] === '\r') start += 1;
      FRAME_END.lastIndex = start;
    }
    this.keep(all.slice(start));
    this.tail = this.tail.slice(-LONGEST_FRAME_END);
    return frames;
  }

  /** What came after the last complete frame: the source ended in the middle of one. */
  flush(): string {
    this.keep(this.decoder.end());
    return this.takeAll();
  }

  /** Line ends between two frames belong to none; nor does the one that Nest sends first, to get the head out. */
  private keep(text: string): void {
    const kept = this.length === 0 ? text.replace(/^[\r\n]+/, '') : text;
    if (kept === '') return;
    this.pieces.push(kept);
    this.length += kept.length;
    this.tail += kept;
  }

  private takeAll(): string {
    const all = this.pieces.join('');
    this.pieces = [];
    this.length = 0;
    this.tail = '';
    return all;
  }

  /** A byte order mark is part of no field; after the id that goes before it, it would be. */
  private withoutMark(text: string): string {
    if (!this.isFirst) return text;
    this.isFirst = false;
    return text.startsWith('\ufeff') ? text.slice(1) : text;
  }
}

/** Whether the text is one frame and no more, in the plainest form. False proves nothing. */
function isWholeFrame(text: string): boolean {
  return text.length > 2 && text[0] !== '\n' && text.indexOf('\n\n') === text.length - 2 && !text.includes('\r');
}

/** The frame with this id, or as it is where it is only a comment. */
export function withId(frame: string, id: string): string {
  // As Nest writes it: one line of the frame begins with `id`, so that it is no mere comment.
  const at = frame.startsWith('id: ') ? 0 : frame.indexOf('\nid: ') + 1;
  const hasIt = at > 0 || frame.startsWith('id: ');
  if (hasIt && isWholeFrame(frame) && isOnlyLine(frame, at))
    return `id: ${id}\n${frame.slice(0, at)}${frame.slice(frame.indexOf('\n', at) + 1)}`;
  const lines = frame.split(LINE_END).filter((line) => line !== '');
  if (lines.every((line) => line.startsWith(':'))) return `${lines.join('\n')}\n\n`;
  return [`id: ${id}`, ...lines.filter((line) => line !== 'id' && !line.startsWith('id:')), '', ''].join('\n');
}

/** Whether no other line than the one at `at` begins with `id`. */
function isOnlyLine(frame: string, at: number): boolean {
  const first = frame.indexOf('\nid');
  return at === 0 ? first < 0 : first === at - 1 && frame.indexOf('\nid', at) < 0 && !frame.startsWith('id');
}

/** A message of the library's own, at the end of a stream that did not end by itself. */
export function endFrame(name: string, id: string, data: Readonly<Record<string, unknown>>): string {
  return `id: ${id}\nevent: idempotency.${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
