import { IdempotencyConfigError, IdempotencyInProgressError, type IdempotencyError } from '../core/errors.js';

/** What an asker is told instead of a reply. */
export interface RpcErrorBody {
  readonly status: 'error';
  readonly code: string;
  readonly message: string;
  /** When to ask again, for `idempotency_in_progress`. */
  readonly retryAfterSeconds?: number;
}

/** What is needed of `@nestjs/microservices`. */
export interface Microservices {
  /** An `RpcException` with this payload. */
  exception(payload: object | string, cause?: unknown): Error;
}

// One for the process: the ESM and the CommonJS build of this package may both be loaded.
const REGISTRY = Symbol.for('nestjs-idempotency:manual-channels');
const WATCHED = Symbol.for('nestjs-idempotency:watched-server');
const registry = globalThis as { [REGISTRY]?: WeakSet<object> };
const manualChannels = (registry[REGISTRY] ??= new WeakSet());

interface RmqServer {
  readonly noAck?: unknown;
  handleMessage: (this: RmqServer, message: unknown, channel: unknown) => unknown;
  [WATCHED]?: true;
}

let loading: Promise<Microservices> | undefined;

/**
 * Loads `@nestjs/microservices`, an optional peer that an application with message handlers has. Called
 * at boot, before the first message can come.
 */
export function loadMicroservices(): Promise<Microservices> {
  return (loading ??= load());
}

async function load(): Promise<Microservices> {
  const { RpcException, ServerRMQ } = await import('@nestjs/microservices');
  watchServers(ServerRMQ.prototype as unknown as RmqServer);
  return {
    exception(payload, cause) {
      const exception = new RpcException(payload);
      if (cause !== undefined) exception.cause = cause;
      return exception;
    },
  };
}

/** Whether what comes over this channel of RabbitMQ has to be acknowledged (`noAck: false`). */
export function isManuallyAcknowledged(channel: object): boolean {
  return manualChannels.has(channel);
}

/**
 * Nest gives a handler the channel, but not whether its messages are to be acknowledged; and to
 * acknowledge one of a `noAck` consumer closes the channel. So each server says it with its first message.
 */
function watchServers(server: RmqServer): void {
  if (server[WATCHED]) return;
  const handleMessage = server.handleMessage as RmqServer['handleMessage'] | undefined;
  if (!handleMessage) {
    throw new IdempotencyConfigError(
      'This version of @nestjs/microservices is not known: its ServerRMQ has no handleMessage. Use one of 11 or 12.',
    );
  }
  server.handleMessage = function (message, channel) {
    if (this.noAck === false && typeof channel === 'object' && channel !== null) manualChannels.add(channel);
    return handleMessage.call(this, message, channel);
  };
  server[WATCHED] = true;
}

export function rpcErrorBody(error: IdempotencyError): RpcErrorBody {
  // The store's own words may name hosts and tables: they are for the log, not for the asker.
  const message =
    error.code === 'idempotency_store_unavailable'
      ? 'The message was not processed. Send it again later.'
      : error.message;
  const body = { status: 'error', code: error.code, message } as const;
  return error instanceof IdempotencyInProgressError ? { ...body, retryAfterSeconds: error.retryAfterSeconds } : body;
}
