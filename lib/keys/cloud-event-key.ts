import type { ExecutionContext } from '@nestjs/common';
import { IdempotencyKeyInvalidError } from '../core/errors.js';
import { hashParts } from '../core/hash.js';
import { MAX_KEY_BYTES } from '../core/key.js';
import { fieldOf, type Fields } from './fields.js';

/** `source` and `id` as an event carries them; either may be anything. */
interface Names {
  readonly source: unknown;
  readonly id: unknown;
}

/** How the bindings of CloudEvents name an attribute: HTTP and NATS, AMQP (both spellings), Kafka. */
const PREFIXES = ['ce-', 'cloudEvents:', 'cloudEvents_', 'ce_'] as const;
const JSON_EVENT = 'application/cloudevents';
const BATCH = 'application/cloudevents-batch';
const PRINTABLE = /^[\x20-\x7e]+$/;

/**
 * The key of a CloudEvent: its `source` and its `id` together, which name an event; the `id` alone does
 * not. For `@Idempotent({ key: cloudEventKey })` on HTTP handlers and on handlers of messages.
 *
 * Reads an event in binary mode from the headers (`ce-source` and `ce-id` over HTTP and NATS,
 * `cloudEvents:source` or `cloudEvents_source` over AMQP) and one in structured mode from the parsed body
 * or the message's data. Undefined where neither has any part of an event's name.
 *
 * @throws IdempotencyKeyInvalidError where a part is missing, empty or no text, and for a batch
 */
export function cloudEventKey(context: ExecutionContext): string | undefined {
  const { fields, body } = fieldOf(context);
  const type = String(fields('content-type') ?? '').toLowerCase();
  if (type.startsWith(BATCH)) {
    throw new IdempotencyKeyInvalidError('A batch of CloudEvents has no key of its own; send one event at a time.', {
      param: 'content-type',
    });
  }
  const names = type.startsWith(JSON_EVENT) ? namesInBody(body) : (namesInFields(fields) ?? namesInBody(body));
  if (names === undefined) return undefined;
  return keyOf(attribute(names.source, 'source'), attribute(names.id, 'id'));
}

function namesInFields(fields: Fields): Names | undefined {
  for (const prefix of PREFIXES) {
    const [source, id] = [fields(`${prefix}source`), fields(`${prefix}id`)];
    if (source === undefined && id === undefined) continue;
    // Only the bindings with `ce-` encode what a header cannot hold.
    return prefix === 'ce-' ? { source: decoded(source), id: decoded(id) } : { source, id };
  }
  return undefined;
}

function namesInBody(body: unknown): Names | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const { source, id, specversion } = body as Record<string, unknown>;
  // Any order has an `id`: what says that this is an event is its `specversion`.
  return specversion === undefined ? undefined : { source, id };
}

function attribute(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '') return value;
  const what =
    value === undefined || value === null
      ? 'is missing'
      : value === ''
        ? 'is empty'
        : `must be a string, not ${typeof value}`;
  throw new IdempotencyKeyInvalidError(`The ${name} of the CloudEvent ${what}.`, { param: name });
}

/**
 * The length before the source keeps apart what would be one text otherwise ('a:b' + 'c', 'a' + 'b:c').
 * A pair that is too long for a key, or has other letters than a key may have, is hashed.
 */
function keyOf(source: string, id: string): string {
  const key = `${source.length}:${source}:${id}`;
  if (key.length <= MAX_KEY_BYTES && PRINTABLE.test(key)) return key;
  return `sha256:${hashParts(['cloudevent', source, id])}`;
}

/** One round of unquoting and percent-decoding, as a header's value has it; bytes that are no UTF-8 stay as they are. */
function decoded(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  const quoted = value.length > 1 && value.startsWith('"') && value.endsWith('"');
  const text = quoted ? value.slice(1, -1).replaceAll(/\\(.)/g, '$1') : value;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
