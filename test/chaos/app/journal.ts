import { openSync, writeSync } from 'node:fs';
import type { Event } from '../checker/history.js';

/**
 * What a process did, as JSON lines. Each is with the operating system before the process goes on, so
 * that a kill loses none of them.
 */
export class Journal {
  private readonly file: number;
  private count = 0;

  constructor(path: string) {
    this.file = openSync(path, 'a');
  }

  write(event: Event): void {
    this.line({ event });
  }

  /** An event that is not over yet: `end` writes it again, with what came of it. */
  begin<E extends Event>(event: E): (rest: Partial<E>) => void {
    const id = `${process.pid}-${(this.count += 1)}`;
    this.line({ id, event });
    return (rest) => this.line({ id, event: { ...event, ...rest } });
  }

  private line(line: object): void {
    writeSync(this.file, JSON.stringify(line) + '\n');
  }
}

/** The events of a journal; of those that were written twice, the later. A line that a kill has cut off is left out. */
export function readJournal(text: string): Event[] {
  const events = new Map<string, Event>();
  text.split('\n').forEach((line, i) => {
    if (!line.endsWith('}')) return;
    const { id, event } = JSON.parse(line) as { id?: string; event: Event };
    events.set(id ?? `line ${i}`, event);
  });
  return [...events.values()];
}
