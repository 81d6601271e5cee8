import { SseFrames, withId } from '../../../lib/http/sse-frames.js';
import { randomFrom } from '../../streams/support/random.js';

interface Heard {
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

/** What a client hears by the rules of the HTML standard, one line after the other. */
function heard(text: string): Heard[] {
  const all: Heard[] = [];
  let [id, event, data] = ['', '', ''];
  const lines = text.replace(/^\ufeff/, '').split(/\r\n|\n|\r/);
  lines.pop(); // what no line end has ended is not heard
  for (const line of lines) {
    if (line === '') {
      if (data !== '') all.push({ id, event, data: data.slice(0, -1) });
      [event, data] = ['', ''];
      continue;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') data += `${value}\n`;
    if (name === 'event') event = value;
    if (name === 'id') id = value;
  }
  return all;
}

function throughFrames(pieces: readonly Buffer[]): string[] {
  const frames = new SseFrames();
  const all = pieces.flatMap((piece) => frames.push(piece));
  const rest = frames.flush();
  return rest === '' ? all : [...all, rest];
}

const withoutIds = (all: readonly Heard[]): unknown[] => all.map(({ event, data }) => [event, data]);
const sent = (frames: readonly string[]): string => frames.map((frame, i) => withId(frame, `t.1.${i + 1}`)).join('');

const ENDS = ['\n', '\r\n', '\r'];
const LINES = [
  'data: plain',
  'data:no space',
  'data',
  'data:',
  'data: 👩‍👩‍👧 é \u2028 and \u0085',
  `data: ${'long '.repeat(2_000)}`,
  'event: thing',
  'id: 7',
  'id',
  'retry: 10',
  ': a comment',
  ':',
  'unknown: field',
  'data: a:b: c',
];

describe('frames of an event stream', () => {
  it('a client hears the same, whatever the line ends and wherever the pieces were cut', () => {
    const random = randomFrom('frames');
    const pick = <T>(from: readonly T[]): T => from[random(from.length) - 1]!;
    for (let round = 0; round < 300; round++) {
      let text = pick(['', '\ufeff', '\n', '\r\n\n']);
      for (let frame = random(6); frame > 0; frame--) {
        for (let line = random(4); line > 0; line--) text += pick(LINES) + pick(ENDS);
        // A lone \r before a \n would be one line end with it.
        text += text.endsWith('\r') ? pick(['\r', '\r\n']) : pick(ENDS);
      }
      const bytes = Buffer.from(text);
      const pieces: Buffer[] = [];
      for (let at = 0; at < bytes.length;) {
        const length = random(pick([1, 3, 50, 5_000]));
        pieces.push(bytes.subarray(at, at + length));
        at += length;
      }
      const frames = throughFrames(pieces);
      expect(sent(frames)).toBe(sent(throughFrames([bytes])));
      const got = heard(sent(frames));
      expect([text, withoutIds(got)]).toEqual([text, withoutIds(heard(text))]);
      // Its own ids are gone; ours rise.
      const numbers = got.map(({ id }) => Number(/^t\.1\.(\d+)$/.exec(id)?.[1]));
      expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    }
  });

  it('a frame of megabytes in tiny pieces costs time in proportion to its size', () => {
    const frames = new SseFrames();
    const piece = Buffer.from('data: x');
    let early = 0;
    for (let i = 0; i < 300_000; i++) early += frames.push(piece).length;
    expect(early).toBe(0);
    expect(frames.waiting).toBe(300_000 * piece.length);
    expect(frames.push(Buffer.from('\n\n'))).toHaveLength(1);
    expect(frames.waiting).toBe(0);
  }, 20_000);

  it('comments have no id', () => {
    expect(withId(': hello\r\n\r\n', 't.1.1')).toBe(': hello\n\n');
    expect(withId(': hello\ndata: x\n\n', 't.1.1')).toBe('id: t.1.1\n: hello\ndata: x\n\n');
    expect(withId('id: own\n\n', 't.1.1')).toBe('id: t.1.1\n\n');
  });
});
