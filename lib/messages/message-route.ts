import type { ExecutionContext } from '@nestjs/common';
import type { RunPolicy } from '../core/policy.js';
import type { RecordWhen } from '../core/record-when.js';

/** Everything that one protected message handler needs to know, resolved once. */
export interface MessageRoute {
  /** The wrapped method that Nest calls; undefined where somebody has wrapped it once more, and any may be it. */
  readonly handler: unknown;
  /** `message orders.create`, or for an event with its handler, of which there may be several. */
  readonly operation: string;
  /** Whether the handler is told (`@EventPattern`) rather than asked (`@MessagePattern`). */
  readonly isEvent: boolean;
  /** How many protected handlers get a message of this pattern. */
  readonly handlersOf: (pattern: string) => number;
  readonly required: boolean;
  readonly key: 'fingerprint' | ((context: ExecutionContext) => unknown);
  readonly scope: 'global' | ((context: ExecutionContext) => unknown);
  readonly fingerprint: false | { readonly omit: readonly string[] } | ((context: ExecutionContext) => unknown);
  readonly secret: string | Uint8Array | undefined;
  readonly policy: RunPolicy;
  readonly recordWhen: RecordWhen;
}
