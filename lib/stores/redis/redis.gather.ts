import type { Writable } from 'node:stream';

/** Streams whose writes of this turn are held together. */
const gathering = new WeakSet<Writable>();

/**
 * Commands that are sent in one turn of the event loop leave in one write: a write costs the process more
 * than anything else about a command, and wakes the server each time. Nothing waits for a timer: a lone
 * command leaves at the end of the turn that it was sent in.
 *
 * ioredis writes each command by itself, and its pipelines would bring another way of failing; node-redis
 * does by itself what is done here.
 */
export function gatherWrites(stream: Writable | null | undefined): void {
  if (!stream || gathering.has(stream)) return;
  gathering.add(stream);
  stream.cork();
  setImmediate(() => {
    gathering.delete(stream);
    stream.uncork();
  });
}
