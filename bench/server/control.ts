import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Asked of a process of the bench over IPC; the answer carries the same `id`. */
export interface Question {
  readonly id: number;
  readonly ask: string;
  readonly about?: unknown;
}

export interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

export interface Memory {
  /** Megabytes that are in use after a full collection: the heap, and what lies outside of it. */
  readonly usedMb: number;
  /** Megabytes that the process has of the machine. */
  readonly residentMb: number;
}

const answers: Record<string, (about: unknown) => unknown> = {
  /** Microseconds of CPU, of all threads, since the start. */
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return user + system;
  },
  memory: (): Memory => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    // Twice: what a finaliser lets go of in the first goes in the second.
    collect();
    collect();
    const { heapUsed, external, rss } = process.memoryUsage();
    return { usedMb: (heapUsed + external) / 2 ** 20, residentMb: rss / 2 ** 20 };
  },
};

/** Answers the bench's questions, tells it the port, and ends when it is told to. */
export function serve(port: number, more: Record<string, (about: unknown) => unknown>, end: () => Promise<void>): void {
  const known = { ...answers, ...more };
  const reply = (message: Reply): void => void process.send?.(message);
  process.on('message', ({ id, ask, about }: Question) => {
    Promise.resolve()
      .then(() => known[ask]!(about))
      .then(
        (value) => reply({ id, value }),
        (error: unknown) =>
          reply({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
      );
  });
  process.once('SIGTERM', () => {
    void end().finally(() => process.exit(0));
  });
  // Of the processes without a server nothing else would keep them until they are asked.
  process.channel?.ref();
  process.send?.({ port });
}
