import { IdempotencyConfigError } from './errors.js';

/** Milliseconds, or a number with a unit: `'250ms'`, `'30s'`, `'15m'`, `'24h'`, `'7d'`. */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const LONGEST_MS = 10 * 365 * UNIT_MS['d']!;

/**
 * Reads a duration as whole milliseconds.
 * @throws IdempotencyConfigError that names `option`, for anything but 1 ms to ten years
 */
export function parseDuration(value: unknown, option: string): number {
  const ms = typeof value === 'number' ? value : typeof value === 'string' ? parseText(value) : NaN;
  if (!Number.isFinite(ms) || ms < 1 || ms > LONGEST_MS) {
    throw new IdempotencyConfigError(
      `${option}: ${describe(value)} is no duration. Write milliseconds as a number, or a text such as '250ms', '30s', '15m', '24h' or '7d' (at least 1 ms, at most ten years).`,
    );
  }
  return Math.round(ms);
}

function parseText(text: string): number {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)$/.exec(text);
  return match ? Number(match[1]) * UNIT_MS[match[2]!]! : NaN;
}

function describe(value: unknown): string {
  return typeof value === 'string' ? `'${value.slice(0, 40)}'` : String(value);
}
