import { hashParts } from '../hash.js';
import type { StreamRef } from '../event-log.js';

/** A place in a stream, as it goes over the wire: which stream, which generation of it, after which item. */
export interface StreamCursor {
  readonly token: string;
  readonly attempt: number;
  readonly seq: number;
}

const FORM = /^([A-Za-z0-9_-]{16})\.([1-9]\d{0,8})\.(\d{1,12})$/;

/** Names the stream on the wire: made of the record's random id, and telling nothing of it or of the key. */
export function streamToken(recordId: string): string {
  return hashParts(['stream', recordId]).slice(0, 16);
}

/** At most 40 characters: `token.attempt.seq`. */
export function formatCursor(stream: Omit<StreamRef, 'recordKey'>, seq: number): string {
  return cursorsOf(stream)(seq);
}

/** The cursors of one stream; the hash that they begin with is made once, not for each item. */
export function cursorsOf({ recordId, attempt }: Omit<StreamRef, 'recordKey'>): (seq: number) => string {
  const prefix = `${streamToken(recordId)}.${attempt}.`;
  return (seq) => prefix + seq;
}

/** Undefined where the text is no cursor of ours. */
export function parseCursor(text: string): StreamCursor | undefined {
  const match = text.length <= 40 ? FORM.exec(text) : null;
  return match ? { token: match[1]!, attempt: Number(match[2]), seq: Number(match[3]) } : undefined;
}
