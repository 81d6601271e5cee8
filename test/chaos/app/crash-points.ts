import { random } from '../../simulation/random.js';
import type { Journal } from './journal.js';
import { machineNow, type AppSettings } from './settings.js';

export type CrashPoint =
  | 'before-claim'
  | 'after-claim'
  | 'before-effect'
  | 'after-effect'
  | 'before-complete'
  | 'after-complete'
  // In a transaction only, on both sides of its commit.
  | 'before-commit'
  | 'after-commit'
  | 'before-respond'
  // Of streams only.
  | 'mid-stream'
  | 'before-append'
  | 'after-append';

/**
 * Short moments that only a run which is recorded comes to. Without more kills than elsewhere a run of a
 * minute would now and then hit none of them.
 */
const TIMES_MORE_OFTEN: Partial<Record<CrashPoint, number>> = {
  'after-complete': 8,
  'before-commit': 3,
  'after-commit': 8,
};

/** There are many more appends than claims, and more claims than completions. */
const TIMES_CUT = { append: 1, claim: 2, complete: 4, commit: 4 } as const;

/** Moments at which the process kills itself, or has the reply of its next store call cut off, by chance. */
export class CrashPoints {
  private readonly draw: () => number;
  private calm = false;

  constructor(
    private readonly settings: AppSettings,
    private readonly journal: Journal,
  ) {
    this.draw = random(settings.seed);
    process.on('message', (message: { calm?: true }) => {
      if (message.calm) this.calm = true;
    });
  }

  at(point: CrashPoint): void {
    const probability = this.settings.crash * (TIMES_MORE_OFTEN[point] ?? 1);
    if (this.calm || this.draw() >= probability) return;
    this.crash(point);
  }

  /** Ends the process at once, without any of its handlers. */
  crash(point: CrashPoint): void {
    const { server } = this.settings;
    const at = machineNow();
    this.journal.write({ type: 'mark', what: `crash ${point}`, server, at });
    this.journal.write({ type: 'fault', kind: 'kill', server, from: at, to: at });
    process.kill(process.pid, 'SIGKILL');
    // The signal is on its way; nothing more must happen until it is here.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }

  /** Sees to it, now and then, that the store does the next thing it is asked for and its reply is lost. */
  async maybeCutReply(of: keyof typeof TIMES_CUT): Promise<void> {
    if (this.calm || !process.send || this.draw() >= this.settings.cut * TIMES_CUT[of]) return;
    const { server } = this.settings;
    const from = machineNow();
    const ready = new Promise<void>((resolve) => {
      const listen = (message: { cutIsReady?: true }): void => {
        if (!message.cutIsReady) return;
        process.off('message', listen);
        resolve();
      };
      process.on('message', listen);
      setTimeout(resolve, 200).unref();
    });
    process.send({ cutNextReply: true });
    await ready;
    this.journal.write({ type: 'mark', what: `cut ${of} reply`, server, at: machineNow() });
    this.journal.write({ type: 'fault', kind: 'cut_reply', server, from, to: machineNow() });
  }
}
