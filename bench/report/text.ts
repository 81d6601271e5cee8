import type { Results } from './results.js';
import type { Target } from './targets.js';

/** The figures as Markdown, for the terminal and for the page. */
export function textOf(results: Results, targets: readonly Target[]): string {
  const { cpu, cores, memoryGb, node } = results.machine;
  const parts = [
    `Measured on ${results.measuredAt.slice(0, 10)}, ${results.mode} run: ${cores} × ${cpu}, ${memoryGb} GB, Node ${node}.`,
    ...results.notRun.map((what) => `**NOT RUN:** ${what}`),
    targetTable(targets),
    ...results.throughput.map(({ adapter, rows }) =>
      table(
        [`new requests, ${adapter}`, 'requests a second', 'to bare', 'middle half', 'CPU of the server, µs a request'],
        rows.map(({ label, perSecond, toBare, cpuMicros }) => [
          label,
          whole(perSecond.median),
          ratio(toBare.median),
          `${ratio(toBare.from)} – ${ratio(toBare.to)}`,
          cpuMicros === undefined ? '' : whole(cpuMicros),
        ]),
      ),
    ),
    ...results.throughput.flatMap(({ adapter, pairs }) => {
      const found = pairs['undecorated/passing'];
      if (!found) return [];
      return `A route without \`@Idempotent()\` to one behind a global interceptor that does nothing, ${adapter}: ${ratio(found.median)} (${ratio(found.from)} – ${ratio(found.to)}).`;
    }),
    ...(results.pgbench ?? []).map(
      ({ connections, pairsPerSecond }) =>
        `pgbench, claim + complete one by one, prepared, ${connections} connections: ${whole(pairsPerSecond)} a second.`,
    ),
    ...results.latency.map(({ adapter, perSecond, rows }) =>
      table(
        [`latency at ${perSecond} requests a second, ${adapter}`, 'p50, ms', 'p99, ms'],
        rows.map(({ label, p50, p99 }) => [label, p50.toFixed(2), p99.toFixed(2)]),
      ),
    ),
    ...results.streams.map(({ adapter, streams, rows }) =>
      table(
        [`event streams, ${adapter}, ${streams} at once`, 'events a second', 'to bare', 'middle half'],
        rows.map(({ server, eventsPerSecond, toBare }) => [
          server,
          whole(eventsPerSecond.median),
          ratio(toBare.median),
          `${ratio(toBare.from)} – ${ratio(toBare.to)}`,
        ]),
      ),
    ),
    table(
      ['`run()` for each of many small items', 'items a second', 'to one at a time', 'middle half'],
      results.items.map(({ store, atOnce, perSecond, toOne }) => [
        `${store}, ${atOnce} at once`,
        whole(perSecond.median),
        ratio(toOne.median),
        `${ratio(toOne.from)} – ${ratio(toOne.to)}`,
      ]),
    ),
    largeTable(results),
    table(
      ['memory of the server, fastify', 'in use, MB', 'resident, MB'],
      results.memory.flatMap(({ store, few, many, afterFew, afterMany }) => [
        [`${store}, after ${whole(few)} requests`, afterFew.usedMb.toFixed(1), afterFew.residentMb.toFixed(0)],
        [`${store}, after ${whole(many)} requests`, afterMany.usedMb.toFixed(1), afterMany.residentMb.toFixed(0)],
      ]),
    ),
  ];
  return parts.join('\n\n');
}

function targetTable(targets: readonly Target[]): string {
  return table(
    ['target', 'measured', 'middle half', 'wanted', 'met'],
    targets.map(({ name, ratio: measured, spread, bound, target, met }) => [
      name,
      ratio(measured),
      spread ? `${ratio(spread[0])} – ${ratio(spread[1])}` : '',
      `${bound === 'at least' ? '≥' : '≤'} ${target}`,
      met ? 'yes' : '**no**',
    ]),
  );
}

function largeTable({ largeTable: { small, large, smallMs, largeMs } }: Results): string {
  return table(
    ['claims of new keys, one after the other', 'ms a claim', 'middle half'],
    (
      [
        [small, smallMs],
        [large, largeMs],
      ] as const
    ).map(([records, { median, from, to }]) => [
      `${whole(records)} records in the table`,
      median.toFixed(3),
      `${from.toFixed(3)} – ${to.toFixed(3)}`,
    ]),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map((_, column) => (column === 0 ? '---' : '--:')), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

const whole = (value: number): string => Math.round(value).toLocaleString('en');
const ratio = (value: number): string => value.toFixed(2);
