import { MetadataScanner, type ModulesContainer } from '@nestjs/core';
import { canonicalText } from '../core/canonical.js';
import { IdempotencyConfigError } from '../core/errors.js';
import { loadMicroservices } from '../messages/microservices.js';

// The metadata keys of Nest's microservices; texts that have not changed since its first versions.
const PATTERN = 'microservices:pattern';
const HANDLER_TYPE = 'microservices:handler_type';
const TRANSPORT = 'microservices:transport';

const EVENT = 2;
const GRPC = 4;

/** What Nest's decorators say of a method that handles messages. */
export interface MessageHandler {
  readonly isEvent: boolean;
  /** The patterns as one text each. */
  readonly patterns: readonly string[];
  /** The only transport that it is for, where it says one. */
  readonly transport: unknown;
}

/** Undefined where the method handles no messages. */
export function messageHandlerOf(method: object): MessageHandler | undefined {
  const type: unknown = Reflect.getMetadata(HANDLER_TYPE, method);
  if (type === undefined) return undefined;
  const patterns = (Reflect.getMetadata(PATTERN, method) ?? []) as readonly unknown[];
  return {
    isEvent: type === EVENT,
    patterns: patterns.map((pattern) => (typeof pattern === 'string' ? pattern : canonicalText(pattern))),
    transport: Reflect.getMetadata(TRANSPORT, method) as unknown,
  };
}

/**
 * Loads what messages need, where the application handles any; others need not have it installed. Nest waits
 * for it while it creates providers, which is before any transport is connected.
 */
export async function readyForMessages(modules: ModulesContainer): Promise<void> {
  const scanner = new MetadataScanner();
  const prototypes = [...modules.values()]
    .flatMap((module) => [...module.controllers.values()])
    .map(({ metatype }) => (metatype as { prototype?: Record<string, unknown> } | undefined)?.prototype);
  const handlesMessages = prototypes.some(
    (prototype) =>
      prototype &&
      scanner.getAllMethodNames(prototype).some((name) => {
        const method = prototype[name];
        return typeof method === 'function' && messageHandlerOf(method) !== undefined;
      }),
  );
  if (handlesMessages) await loadMicroservices();
}

/**
 * The operation of a message handler. One of events has its name in it: several may handle one event, and
 * what one has done is not done by the others.
 */
export function operationOf({ isEvent, patterns }: MessageHandler, handlerName: string): string {
  const pattern = patterns.join(', ');
  return isEvent ? `event ${pattern} (${handlerName})` : `message ${pattern}`;
}

/** @throws IdempotencyConfigError where the handler is for a transport that is not supported */
export function refuseTransport({ transport }: MessageHandler, where: string): void {
  if (transport !== GRPC) return;
  throw new IdempotencyConfigError(
    `${where}: gRPC methods are not protected by this decorator. Call IdempotencyService.run() in the method instead, with a key from the request or its metadata; it would run unprotected otherwise.`,
  );
}

/** How many protected handlers get one event, from all of them. */
export class EventShares {
  private readonly events: MessageHandler[] = [];

  add(handler: MessageHandler): void {
    if (handler.isEvent) this.events.push(handler);
  }

  /** For messages that come under `pattern` to `handler`; under one that is a wildcard's, those of the handler's own patterns. */
  of(handler: MessageHandler, pattern: string): number {
    if (!handler.isEvent) return 1;
    const asked = handler.patterns.includes(pattern) ? [pattern] : handler.patterns;
    const sharing = this.events.filter(
      ({ patterns, transport }) =>
        patterns.some((one) => asked.includes(one)) &&
        (transport === undefined || handler.transport === undefined || transport === handler.transport),
    );
    return Math.max(1, sharing.length);
  }
}
