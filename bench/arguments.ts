import { parseArgs } from 'node:util';

export interface Arguments {
  /** A small run, which shows that everything works; its figures are rough. */
  readonly quick: boolean;
  /** One JSON object on standard output instead of the tables. */
  readonly json: boolean;
  /** Puts the figures into this folder's page and draws the chart. */
  readonly write: boolean;
}

export function readArguments(args: readonly string[]): Arguments {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
    },
  });
  if (values.quick && values.write) throw new Error('--write keeps the figures of a full run only');
  return values;
}
