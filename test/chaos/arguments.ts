import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const STORES = ['postgres', 'redis'] as const;
const MODES = ['block', 'rerun', 'transaction', 'stream-block', 'stream-rerun'] as const;

export type Store = (typeof STORES)[number];
export type RunMode = (typeof MODES)[number];

export interface Arguments {
  readonly runs: readonly { readonly store: Store; readonly mode: RunMode }[];
  readonly seconds: number;
  readonly seed: number;
  /** Where histories and numbers go. */
  readonly out: string;
}

export const USAGE =
  `chaos: --store ${STORES.join('|')}|all --mode ${MODES.join('|')}|stream|all --seconds N --seed S ` +
  '[--out DIR for histories and numbers]';

/** @throws Error whose message says what is wrong */
export function readArguments(args: string[]): Arguments {
  const { values } = parseArgs({
    args,
    options: {
      store: { type: 'string', default: 'all' },
      mode: { type: 'string', default: 'all' },
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: String(Math.floor(Math.random() * 1_000_000)) },
      out: { type: 'string', default: join(tmpdir(), 'idempotency-chaos-histories') },
    },
  });
  const stores = STORES.filter((store) => values.store === 'all' || values.store === store);
  const modes = MODES.filter(
    (mode) => values.mode === 'all' || mode === values.mode || mode.split('-')[0] === values.mode,
  );
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
  if (stores.length === 0 || modes.length === 0) throw new Error('There is no such store or mode.');
  if (!(seconds > 0) || !Number.isInteger(seed)) throw new Error('--seconds is a number above 0, --seed an integer.');
  const runs = stores.flatMap((store) => modes.map((mode) => ({ store, mode })));
  const possible = runs.filter(({ store, mode }) => store !== 'redis' || mode !== 'transaction');
  if (possible.length === 0) {
    throw new Error(
      'There is no mode transaction on Redis: what a handler writes into its database and a record in Redis ' +
        'cannot be committed together. Run it with --store postgres.',
    );
  }
  return { runs: possible, seconds, seed, out: values.out };
}
