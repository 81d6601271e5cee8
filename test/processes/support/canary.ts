import { createHmac } from 'node:crypto';

/** Says whose answer it is; length-prefixed, so that no scope and key say what another pair says. */
export function canaryOf(scope: string, key: string): string {
  return createHmac('sha256', 'canary')
    .update(`${Buffer.byteLength(scope)}:${scope}${Buffer.byteLength(key)}:${key}`)
    .digest('hex');
}
