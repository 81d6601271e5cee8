import type { CallEvent, ReadingEnd, ReadingEvent, SourceEndEvent, StreamHistory, Violation } from './history.js';

/** What must hold of streams, whatever happens to those who make and read them. */
export const STREAM_RULES = {
  S1: 'the model is called once for an attempt, and block has one attempt',
  S2: 'what a reader gets is contiguous, from the start or strictly after its cursor, and nothing is double',
  S3: 'all readers of a stream get the same at the same place, of one call of the model',
  S4: 'no clean end without the end of the source, and then all of it',
  S5: 'a stream has one end, at one place, for everybody; only where a later attempt has taken its place a reader may be told so earlier',
  S6: 'what anybody has seen is there for whoever comes later',
  S7: 'a refusal is one that the answers of the library name, and has its reason',
  S8: 'once all is healed, every stream is read to its end, or its outcome is unknown to everybody',
  S9: 'no process fails by itself',
} as const;
type Rule = keyof typeof STREAM_RULES;

/** Ends that say what became of the stream itself; the others are of the reading. */
const ENDS_OF_STREAM: ReadonlySet<ReadingEnd> = new Set([
  'clean',
  'interrupted',
  'failed',
  'cancelled',
  'truncated',
  'timeout',
]);

/** Holds a history against the rules. A pure function. */
export function checkStreams({ mode, events }: StreamHistory): Violation[] {
  const violations: Violation[] = [];
  const calls = new Map<string, CallEvent[]>();
  const sources = new Map<string, SourceEndEvent>();
  const readings = new Map<string, ReadingEvent[]>();
  for (const event of events) {
    if (event.type === 'call') calls.set(event.key, [...(calls.get(event.key) ?? []), event]);
    if (event.type === 'source_end') sources.set(event.salt, event);
    if (event.type === 'reading') readings.set(event.key, [...(readings.get(event.key) ?? []), event]);
    if (event.type === 'trouble') violations.push({ invariant: 'S9', subject: event.server, what: event.what });
  }
  for (const key of new Set([...calls.keys(), ...readings.keys()])) {
    const ofKey = new KeyOfStream(key, mode, calls.get(key) ?? [], readings.get(key) ?? [], sources);
    violations.push(...ofKey.check());
  }
  return violations;
}

interface Generation {
  readonly salt: string;
  /** Without the place: `token.attempt`. */
  prefix: string | undefined;
  /** The furthest place that anybody has seen. */
  seen: number;
  end: { readonly kind: ReadingEnd; readonly at: number } | undefined;
}

class KeyOfStream {
  private readonly violations: Violation[] = [];
  private readonly generations = new Map<string, Generation>();

  constructor(
    private readonly key: string,
    private readonly mode: 'block' | 'rerun',
    private readonly calls: readonly CallEvent[],
    private readonly readings: readonly ReadingEvent[],
    private readonly sources: ReadonlyMap<string, SourceEndEvent>,
  ) {}

  check(): Violation[] {
    this.checkCalls();
    for (const reading of this.readings) if (reading.items.length > 0) this.checkItems(reading);
    for (const reading of this.readings) this.checkEnd(reading);
    for (const reading of this.readings) this.checkRefusal(reading);
    this.checkFinal();
    return this.violations;
  }

  private found(invariant: Rule, what: string): void {
    this.violations.push({ invariant, subject: this.key, what });
  }

  private checkCalls(): void {
    const attempts = this.calls.map(({ attempt }) => attempt);
    if (new Set(attempts).size < attempts.length)
      this.found('S1', `called more than once: attempts ${attempts.join()}`);
    if (this.mode === 'block' && attempts.length > 1) this.found('S1', `called ${attempts.length} times`);
    const fences = [...this.calls].sort((a, b) => a.attempt - b.attempt).map(({ fence }) => fence);
    if (fences.some((fence, i) => i > 0 && fence <= fences[i - 1]!)) this.found('S1', `fences ${fences.join()}`);
  }

  private checkItems({ items, cursor, route, endId }: ReadingEvent): void {
    const numbers = items.map(([, data]) => Number(data.split('-')[1]));
    const first = cursor === undefined ? 1 : placeOf(cursor) + 1;
    const gap = numbers.findIndex((number, i) => number !== first + i);
    if (gap >= 0) this.found('S2', `${numbers[gap]} where ${first + gap} was due (cursor ${cursor})`);
    const salts = new Set(items.map(([, data]) => data.split('-')[0]!));
    if (salts.size > 1) return this.found('S3', `tokens of ${salts.size} calls in one answer`);
    const salt = [...salts][0]!;
    if (!this.calls.some((call) => call.salt === salt)) this.found('S3', `tokens of a call that is none of its own`);
    const generation = this.generationOf(salt);
    generation.seen = Math.max(generation.seen, ...numbers);
    if (route === 'bytes') return;
    for (const [id, data] of items) {
      generation.prefix ??= prefixOf(id);
      if (prefixOf(id) !== generation.prefix) this.found('S3', `${id} in a stream of ${generation.prefix}`);
      if (placeOf(id) !== Number(data.split('-')[1])) this.found('S3', `${data} at ${id}`);
    }
    if (endId !== undefined && prefixOf(endId) !== generation.prefix) {
      this.found('S3', `${generation.prefix} ended at ${endId}`);
    }
    if (cursor !== undefined && prefixOf(cursor) !== generation.prefix) {
      this.found('S3', `resumed at ${cursor}, got ${generation.prefix}`);
    }
  }

  private checkEnd(reading: ReadingEvent): void {
    if (!ENDS_OF_STREAM.has(reading.end) || reading.reason === 'store_unavailable') return;
    if (reading.reason === 'stream_gone') return this.checkGone(reading);
    const at = this.endOf(reading);
    const generation = this.generationOfReading(reading);
    if (!generation) {
      // Nobody knows whose end it is; of a whole stream there would be something.
      if (reading.end === 'clean') this.found('S4', 'a clean end of a stream without a token');
      return;
    }
    const source = this.sources.get(generation.salt);
    if (reading.end === 'clean' && (source?.end !== 'complete' || source.tokens !== at)) {
      this.found('S4', `a clean end at ${at}; the source: ${source ? `${source.end} at ${source.tokens}` : 'no end'}`);
    }
    generation.end ??= { kind: reading.end, at };
    if (generation.end.kind !== reading.end || generation.end.at !== at) {
      this.found('S5', `${reading.end} at ${at}, and ${generation.end.kind} at ${generation.end.at}`);
    }
    if (generation.seen > at) this.found('S6', `ended at ${at}, where somebody has seen ${generation.seen}`);
  }

  /** What was recorded after this place is lost to its reader; only a later attempt may take it. */
  private checkGone(reading: ReadingEvent): void {
    const own = Number(reading.endId?.split('.')[1]);
    if (!this.calls.some(({ attempt }) => attempt > own))
      this.found('S5', `gone at ${reading.endId}, and no later attempt has taken its place`);
  }

  private checkRefusal({ end, code, cursor, status }: ReadingEvent): void {
    if (end !== 'refused') return;
    const isLater = this.calls.length > 1 || this.mode === 'rerun';
    switch (code) {
      case 'idempotency_in_progress':
      case 'idempotency_outcome_unknown':
      case 'idempotency_store_unavailable':
        return;
      case 'idempotency_cursor_invalid':
        // Another attempt has begun; in block there is none.
        if (cursor !== undefined && isLater) return;
        return this.found('S7', `the cursor ${cursor} was refused`);
      case 'idempotency_response_not_kept':
        // Its stream has made room for another attempt's as it was looked for.
        if (cursor !== undefined && isLater) return;
        return this.found('S7', `${status} ${code}`);
      default:
        this.found('S7', `${status} ${code}`);
    }
  }

  private checkFinal(): void {
    const final = this.readings.find((reading) => reading.final);
    if (!final) return this.found('S8', 'it was not read at the end');
    const latest = Math.max(0, ...this.calls.map(({ attempt }) => attempt));
    if (final.end === 'refused') {
      const seen = Math.max(0, ...[...this.generations.values()].map((generation) => generation.seen));
      if (final.code !== 'idempotency_outcome_unknown') this.found('S8', `refused at the end: ${final.code}`);
      // What was streamed is given again, and then the reason; without a stream there is nothing to give.
      else if (seen > 0 && this.mode === 'block')
        this.found('S6', `unknown at the end, where ${seen} tokens were seen`);
      return;
    }
    // A body that is cut says so only by that. Where the last reader has made it run again, its source tells.
    const source = this.generationOfReading(final) && this.sources.get(this.generationOfReading(final)!.salt);
    const isCutForGood =
      final.route === 'bytes' && final.end === 'cut' && (final.standing !== 'live' || source?.end === 'failed');
    if (!ENDS_OF_STREAM.has(final.end) && !isCutForGood) return this.found('S8', `at the end: ${final.end}`);
    const generation = this.generationOfReading(final);
    if (!generation) return;
    if (this.endOf(final) < generation.seen) {
      this.found('S6', `${this.endOf(final)} at the end, where somebody has seen ${generation.seen}`);
    }
    const call = this.calls.find(({ salt }) => salt === generation.salt);
    if (this.mode === 'block' && call && call.attempt !== latest) this.found('S6', 'an older attempt at the end');
  }

  private endOf({ endId, items, cursor }: ReadingEvent): number {
    if (endId !== undefined) return placeOf(endId);
    const last = items[items.length - 1];
    return last ? Number(last[1].split('-')[1]) : cursor === undefined ? 0 : placeOf(cursor);
  }

  private generationOf(salt: string): Generation {
    let generation = this.generations.get(salt);
    if (!generation) {
      generation = { salt, prefix: undefined, seen: 0, end: undefined };
      this.generations.set(salt, generation);
    }
    return generation;
  }

  private generationOfReading({ items, endId, cursor }: ReadingEvent): Generation | undefined {
    const first = items[0];
    if (first) return this.generationOf(first[1].split('-')[0]!);
    const id = endId ?? cursor;
    return id === undefined
      ? undefined
      : [...this.generations.values()].find((generation) => generation.prefix === prefixOf(id));
  }
}

function placeOf(id: string): number {
  return Number(id.slice(id.lastIndexOf('.') + 1));
}

function prefixOf(id: string): string {
  return id.slice(0, id.lastIndexOf('.'));
}
