/** Whole numbers from 1 to `most`, the same ones for the same seed; `STREAM_SEED` gives others. */
export function randomFrom(name: string): (most: number) => number {
  let state = 0x9e3779b9;
  for (const character of `${process.env['STREAM_SEED'] ?? ''}${name}`) {
    state = Math.imul(state ^ character.charCodeAt(0), 0x01000193) >>> 0;
  }
  return (most) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return 1 + (((mixed ^ (mixed >>> 14)) >>> 0) % most);
  };
}
