import type { BatchOutcome } from './postgres-calls.js';
import type { Row } from './record-row.js';

/** More rows than this are not sent at once: a statement that is undone would take too much with it. */
const MOST_ROWS = 64;

/** Bytes of values after which a batch takes no more: a large answer does not hold up many small ones. */
const MOST_BYTES = 256 * 1024;

export interface BatchOptions<T> {
  /** Statements under way at the same time, from 1; while there are as many, the rest gathers. */
  readonly underWay: number;
  /** The order in which rows are taken. */
  readonly order: (a: T, b: T) => number;
  /** Items of different groups do not go out together. */
  readonly group?: (item: T) => string;
  /** Two items for which it is the same do not go out together. */
  readonly apart?: (item: T) => string;
  /** Bytes of an item's values, where they may be many. */
  readonly bytes?: (item: T) => number;
  /** Sends one statement for all of the items; the rows tell by `n`, from 1, whose they are. */
  readonly send: (items: readonly T[], end: number) => Promise<BatchOutcome>;
  /** The same for one item, with all the patience that the item's deadline allows. */
  readonly sendAlone: (item: T, end: number) => Promise<readonly Row[]>;
}

interface Waiting<T> {
  readonly item: T;
  readonly end: number;
  readonly resolve: (row: Row | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Makes one statement of what waits at the same moment. Nothing waits for company: an item goes out at
 * once, with what else there is, unless as many statements as may be are under way. So at low load each
 * goes by itself, and the more there is to do the more goes at once.
 *
 * No item is worse off for its neighbours: where the statement fails, or would have to wait for a row,
 * each goes out again alone.
 */
export class StatementBatch<T> {
  private waiting: Waiting<T>[] = [];
  private underWay = 0;
  private isDue = false;

  constructor(private readonly options: BatchOptions<T>) {}

  /**
   * The item's row of the result; undefined where it has none.
   * @param end when its caller gives up, on the clock of `performance.now()`; it is not sent after that
   */
  ask(item: T, end: number): Promise<Row | undefined> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, end, resolve, reject });
      if (this.isDue) return;
      this.isDue = true;
      // After what else is said in this turn, so that it goes along.
      queueMicrotask(() => {
        this.isDue = false;
        this.sendWhatWaits();
      });
    });
  }

  private sendWhatWaits(): void {
    while (this.waiting.length > 0 && this.underWay < this.options.underWay) {
      const batch = this.take();
      if (batch.length === 0) continue;
      this.underWay += 1;
      void this.run(batch).finally(() => {
        this.underWay -= 1;
        this.sendWhatWaits();
      });
    }
  }

  /** As much of what waits as goes together, oldest first. */
  private take(): Waiting<T>[] {
    const { group, apart, bytes } = this.options;
    const now = performance.now();
    const left: Waiting<T>[] = [];
    const taken: Waiting<T>[] = [];
    const alreadyIn = new Set<string>();
    let total = 0;
    for (const each of this.waiting) {
      // Its caller has been told already.
      if (each.end <= now) each.reject(new Error('it waited for its turn until the deadline'));
      else if (taken.length >= MOST_ROWS || total >= MOST_BYTES) left.push(each);
      else if (taken.length > 0 && group && group(each.item) !== group(taken[0]!.item)) left.push(each);
      else if (apart && alreadyIn.has(apart(each.item))) left.push(each);
      else {
        taken.push(each);
        if (apart) alreadyIn.add(apart(each.item));
        total += bytes?.(each.item) ?? 0;
      }
    }
    this.waiting = left;
    return taken.sort((a, b) => this.options.order(a.item, b.item));
  }

  private async run(batch: readonly Waiting<T>[]): Promise<void> {
    const items = batch.map(({ item }) => item);
    const end = Math.max(...batch.map((each) => each.end));
    const outcome = await this.options.send(items, end).catch((error: unknown) => ({ error, mayBeOneRow: true }));
    if ('rows' in outcome) {
      const rows = new Map(outcome.rows.map((row) => [Number(row['n']), row]));
      batch.forEach(({ resolve }, index) => resolve(rows.get(index + 1)));
    } else if (outcome.mayBeOneRow) {
      // Not under way any more: what waits for a row waits for itself only.
      for (const each of batch) void this.runAlone(each);
    } else for (const { reject } of batch) reject(outcome.error);
  }

  private async runAlone({ item, end, resolve, reject }: Waiting<T>): Promise<void> {
    try {
      const [row] = await this.options.sendAlone(item, end);
      resolve(row);
    } catch (error) {
      reject(error);
    }
  }
}
