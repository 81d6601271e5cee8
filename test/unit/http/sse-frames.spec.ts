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

  it('text that comes frame by frame, or in any other way, becomes what its bytes become', () => {
    const random = randomFrom('texts');
    const pick = <T>(from: readonly T[]): T => from[random(from.length) - 1]!;
    for (let round = 0; round < 500; round++) {
      const pieces = ['\n'];
      for (let frame = random(8); frame > 0; frame--) {
        let text = '';
        for (let line = random(4); line > 0; line--) text += pick(LINES) + pick(random(4) === 1 ? ENDS : ['\n']);
        text += pick(['\n', '\n', '\n', '', '\n\n', '\r\n']);
        // Most are whole; some are cut, also within a character.
        const at = random(4) === 1 ? random(text.length) : text.length;
        pieces.push(text.slice(0, at), text.slice(at));
      }
      const asText = new SseFrames();
      const asBytes = new SseFrames();
      for (const piece of pieces) {
        // Now and then one that comes as bytes.
        const isText = random(6) > 1;
        const got = isText ? asText.pushText(piece) : asText.push(Buffer.from(piece));
        const due = asBytes.push(Buffer.from(piece));
        const told = (frames: readonly string[]): string[] => frames.map((frame) => withId(frame, 't.1.1'));
        expect([pieces, told(got)]).toEqual([pieces, told(due)]);
      }
      expect(asText.flush()).toBe(asBytes.flush());
    }
  });

  it('a frame has one id, ours, wherever its own stands', () => {
    expect(withId('id: 7\ndata: x\n\n', 'ours')).toBe('id: ours\ndata: x\n\n');
    expect(withId('event: e\nid: 7\ndata: x\n\n', 'ours')).toBe('id: ours\nevent: e\ndata: x\n\n');
    expect(withId('id: 7\ndata: x\nid: 8\n\n', 'ours')).toBe('id: ours\ndata: x\n\n');
    expect(withId('id\ndata: x\nid: 8\n\n', 'ours')).toBe('id: ours\ndata: x\n\n');
    expect(withId('idea: 7\nid: 8\ndata: x\n\n', 'ours')).toBe('id: ours\nidea: 7\ndata: x\n\n');
    expect(withId('data: x\nid:8\n\n', 'ours')).toBe('id: ours\ndata: x\n\n');
    expect(withId('data: id: 8\n\n', 'ours')).toBe('id: ours\ndata: id: 8\n\n');
  });

  it('comments have no id', () => {
    expect(withId(': hello\r\n\r\n', 't.1.1')).toBe(': hello\n\n');
    expect(withId(': hello\ndata: x\n\n', 't.1.1')).toBe('id: t.1.1\n: hello\ndata: x\n\n');
    expect(withId('id: own\n\n', 't.1.1')).toBe('id: t.1.1\n\n');
  });
});
