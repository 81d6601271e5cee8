import type { ExecutionContext } from '@nestjs/common';
import { fieldOf } from './fields.js';

/**
 * The key of a webhook that follows Standard Webhooks: its `webhook-id` header, which stays the same
 * through all retries. For `@Idempotent({ key: webhookKey, retention: '7d' })`: senders retry for days.
 *
 * A retry of a webhook that was answered gets the same answer, so a 2xx stays a 2xx; one that comes
 * while the first is being handled gets a 409, which its sender takes for "again later".
 * Undefined where there is no such header.
 *
 * @throws IdempotencyKeyInvalidError where it was sent more than once, or is empty, too long (over 255
 * bytes) or not printable ASCII
 */
export function webhookKey(context: ExecutionContext): string | undefined {
  // A value that is no text is told so by whoever checks the key.
  return fieldOf(context).fields('webhook-id') as string | undefined;
}
