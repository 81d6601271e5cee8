import type { ItemsRow } from '../parts/items.js';
import type { LargeTable } from '../parts/large-table.js';
import type { Latency } from '../parts/latency.js';
import type { MemoryGrowth } from '../parts/memory.js';
import type { Pgbench } from '../parts/pgbench.js';
import type { StreamFigures } from '../parts/streams.js';
import type { Throughput } from '../parts/throughput.js';

/** Everything that was measured, before it is judged. */
export interface Results {
  readonly mode: 'full' | 'quick';
  readonly measuredAt: string;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memoryGb: number; readonly node: string };
  /** What this machine could not run, and why. */
  readonly notRun: readonly string[];
  readonly throughput: readonly Throughput[];
  readonly latency: readonly Latency[];
  readonly streams: readonly StreamFigures[];
  readonly items: readonly ItemsRow[];
  readonly pgbench: readonly Pgbench[] | undefined;
  readonly largeTable: LargeTable;
  readonly memory: readonly MemoryGrowth[];
}
