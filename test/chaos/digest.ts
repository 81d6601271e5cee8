import { createHash } from 'node:crypto';

/** The headers that are kept with an answer and that the application sends. */
const KEPT = ['content-type', 'location'];

/** Status, kept headers and body bytes of an answer, as a text that is the same for the same answer. */
export function digestOf(
  status: number | null,
  header: (name: string) => string | undefined,
  body: string | Uint8Array,
): string {
  const hash = createHash('sha256').update(JSON.stringify([status, KEPT.map((name) => header(name) ?? null)]));
  return hash.update(body).digest('base64url').slice(0, 22);
}
