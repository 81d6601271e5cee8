import type { Throughput } from '../parts/throughput.js';

const WIDTH = 820;
const LABELS = 390;
const BAR = 22;
const GAP = 10;
const TOP = 58;

/** Drawn in this order: from what costs nothing to what costs most, then the peer. */
const BARS: readonly string[] = [
  'bare',
  'passing',
  'undecorated',
  'hotReplay',
  'memory',
  'redis',
  'firstReplay',
  'postgres',
  'peer',
];

/** One bar a variant: requests a second as a share of the bare handler's. */
export function chartOf({ adapter, rows }: Throughput, machine: string): string {
  const shown = BARS.flatMap((name) => rows.find((row) => row.name === name) ?? []);
  const height = TOP + shown.length * (BAR + GAP) + 16;
  const largest = Math.max(1, ...shown.map(({ toBare }) => toBare.to));
  const scale = (WIDTH - LABELS - 70) / largest;
  const bars = shown.map(({ name, label, toBare }, index) => {
    const y = TOP + index * (BAR + GAP);
    const width = Math.round(toBare.median * scale);
    const colour = name === 'bare' || name === 'passing' ? '#8a94a6' : name === 'peer' ? '#c4a46b' : '#3f7cac';
    const [from, to] = [LABELS + Math.round(toBare.from * scale), LABELS + Math.round(toBare.to * scale)];
    const middle = y + BAR / 2;
    return [
      `<text x="${LABELS - 10}" y="${middle + 5}" text-anchor="end">${escaped(label)}</text>`,
      `<rect x="${LABELS}" y="${y}" width="${width}" height="${BAR}" rx="2" fill="${colour}"/>`,
      ...(name === 'bare' ? [] : [`<path d="M${from} ${middle}H${to}" stroke="#1c2733" stroke-width="2"/>`]),
      `<text x="${Math.max(LABELS + width, to) + 8}" y="${middle + 5}">${toBare.median.toFixed(2)}</text>`,
    ].join('\n  ');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" font-family="system-ui, sans-serif" font-size="14">
  <title>Requests a second, to the bare handler (${adapter})</title>
  <rect width="100%" height="100%" fill="#ffffff"/>
  <text x="16" y="24" font-size="16" font-weight="600">Requests a second, to the bare handler (${adapter})</text>
  <text x="16" y="44" font-size="12" fill="#5a6675">Median of interleaved rounds, line: the middle half. ${escaped(machine)}</text>
  ${bars.join('\n  ')}
</svg>
`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
