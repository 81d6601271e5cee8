import type { ExecutionContext } from '@nestjs/common';
import { IdempotencyKeyInvalidError } from '../core/errors.js';

/** The value of a header (over AMQP: a property) by its name, or undefined. */
export type Fields = (name: string) => unknown;

export interface Envelope {
  readonly fields: Fields;
  /** The parsed body, or a message's data. */
  readonly body: unknown;
}

interface HttpRequest {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly raw?: { readonly rawHeaders?: readonly string[] };
  readonly rawHeaders?: readonly string[];
  readonly body?: unknown;
}

interface AmqpProperties {
  readonly contentType?: unknown;
  readonly headers?: Readonly<Record<string, unknown>>;
}

/** The headers and the body of what came, over HTTP or as a message. */
export function fieldOf(context: ExecutionContext): Envelope {
  if (context.getType() === 'http') {
    const request = context.switchToHttp().getRequest<HttpRequest>();
    return { fields: (name) => oneLine(request, name.toLowerCase()), body: request.body };
  }
  const rpc = context.switchToRpc();
  return { fields: messageFields(rpc.getContext()), body: rpc.getData() };
}

/** @throws IdempotencyKeyInvalidError where the field was sent more than once: Node has joined its lines with a comma */
function oneLine(request: HttpRequest, name: string): unknown {
  const value = request.headers[name];
  if (value === undefined) return undefined;
  const rawHeaders = request.raw?.rawHeaders ?? request.rawHeaders ?? [];
  const lines = rawHeaders.filter((field, i) => i % 2 === 0 && field.toLowerCase() === name).length;
  if (Array.isArray(value) || lines > 1) {
    throw new IdempotencyKeyInvalidError(`${name} was sent more than once.`, { param: name });
  }
  return value;
}

function messageFields(rpcContext: unknown): Fields {
  const { getMessage, getHeaders } = Object(rpcContext) as { getMessage?: unknown; getHeaders?: unknown };
  if (typeof getHeaders === 'function') {
    const headers: unknown = getHeaders.call(rpcContext);
    const { get, has } = Object(headers) as { get?: unknown; has?: unknown };
    if (typeof get !== 'function' || typeof has !== 'function') return () => undefined;
    return (name) => (has.call(headers, name) === true ? (get.call(headers, name) as unknown) : undefined);
  }
  const message = typeof getMessage === 'function' ? (getMessage.call(rpcContext) as unknown) : undefined;
  const { properties } = Object(message) as { properties?: AmqpProperties };
  return (name) => (name === 'content-type' ? properties?.contentType : properties?.headers?.[name]);
}
