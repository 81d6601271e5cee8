import type { ExecutionContext } from '@nestjs/common';
import type { RunPolicy } from '../core/policy.js';
import type { HttpFingerprintOptions } from './http-fingerprint.js';
import type { RecordWhen } from '../core/record-when.js';

/** Everything that one protected route needs to know, resolved once. */
export interface HttpRoute {
  /** The wrapped method that Nest calls; undefined where somebody has wrapped it once more, and any may be it. */
  readonly handler: unknown;
  /** Whether the handler answers with server-sent events (`@Sse()`). */
  readonly isSse: boolean;
  readonly header: string;
  readonly required: boolean;
  /** Where the key comes from; a sent key wins over the fingerprint. */
  readonly key: 'header' | 'fingerprint' | ((context: ExecutionContext) => unknown);
  readonly scope: 'global' | ((context: ExecutionContext) => unknown);
  readonly fingerprint: false | HttpFingerprintOptions | ((context: ExecutionContext) => unknown);
  readonly secret: string | Uint8Array | undefined;
  readonly policy: RunPolicy;
  readonly recordWhen: RecordWhen;
  readonly onDisconnect: 'continue' | 'cancel';
  readonly documentationUrl: string;
}
