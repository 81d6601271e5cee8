import {
  Inject,
  Injectable,
  type CanActivate,
  type ExecutionContext,
  type OnApplicationShutdown,
} from '@nestjs/common';
import { MetadataScanner, ModulesContainer } from '@nestjs/core';
import { IdempotencyConfigError } from '../core/errors.js';
import { HttpExchange } from '../http/http-request.js';
import type { HttpRoute } from '../http/http-route.js';
import { connectionOf } from '../http/staying-connection.js';
import type { MessageRoute } from '../messages/message-route.js';
import { IDEMPOTENT } from './decorators.js';
import { hookHandler } from './handler-hook.js';
import { guardHandler, releaseHandler, type TakeMessage } from './hybrid.js';
import {
  EventShares,
  messageHandlerOf,
  operationOf,
  refuseTransport,
  type MessageHandler,
} from './message-handlers.js';
import type { IdempotencyRouteOptions } from './options.js';
import { noHandler, refuseProvider } from './refuse-provider.js';
import { resolveMessageRoute } from './resolve-message.js';
import { resolveRoute, type ModuleSettings } from './resolve-options.js';
import { IDEMPOTENCY_SETTINGS } from './tokens.js';

// Nest's own metadata keys; texts that have not changed since its first versions.
const PATH = 'path';
const SSE = '__sse__';
const VERSION = '__version__';
const GUARDS = '__guards__';

type Layer = IdempotencyRouteOptions | false | undefined;
type AnyClass = abstract new (...args: never[]) => object;

/** All protected handlers of the application, of requests and of messages, found and checked at boot. */
@Injectable()
export class RouteTable implements OnApplicationShutdown {
  private readonly routes = new Map<unknown, HttpRoute | null>();
  private readonly messages = new Map<unknown, MessageRoute | null>();
  private readonly events = new EventShares();
  private readonly scanner = new MetadataScanner();
  private takeMessage: TakeMessage | undefined;

  /** What routes need of the store, each with the first route that needs it. */
  readonly needs: { transactions?: string; events?: string } = {};

  constructor(
    @Inject(IDEMPOTENCY_SETTINGS) private readonly settings: ModuleSettings,
    @Inject(ModulesContainer) modules: ModulesContainer,
  ) {
    const imports = [...modules.values()].filter((module) => module.providers.has(IDEMPOTENCY_SETTINGS));
    if (imports.length > 1) {
      throw new IdempotencyConfigError(
        'IdempotencyModule.forRoot() is imported more than once, and each would claim every request. Import it in the root module only; routes that differ say so in @Idempotent({ … }).',
      );
    }
    for (const module of modules.values()) {
      for (const { metatype } of module.controllers.values()) this.addController(metatype as AnyClass | undefined);
      for (const { metatype } of module.providers.values()) refuseProvider(this.scanner, metatype as AnyClass);
    }
  }

  /** The route that is being called, or null where it is not idempotent. */
  of(context: ExecutionContext): HttpRoute | null {
    const handler = context.getHandler();
    const route = this.routes.get(handler);
    return route === undefined ? this.addLate(handler, context.getClass() as AnyClass) : route;
  }

  /** As `of`, for a message. */
  ofMessage(context: ExecutionContext): MessageRoute | null {
    const handler = context.getHandler();
    const route = this.messages.get(handler);
    return route === undefined ? this.addLateMessage(handler, context.getClass() as AnyClass) : route;
  }

  /** Puts `take` before each handler of messages, for those that no global interceptor is called for. */
  guardMessages(take: TakeMessage): void {
    this.takeMessage = take;
    for (const [handler, route] of this.messages) if (route) guardHandler(handler as object, take);
  }

  onApplicationShutdown(): void {
    for (const handler of this.messages.keys()) releaseHandler(handler as object, this.takeMessage!);
  }

  private addController(controller: AnyClass | undefined): void {
    if (typeof controller !== 'function' || !controller.prototype) return;
    const names = this.scanner.getAllMethodNames(controller.prototype as object);
    const methods = names.map((name) => [name, (controller.prototype as Record<string, unknown>)[name]] as const);
    const hasHttp = methods.some(([, method]) => typeof method === 'function' && Reflect.hasMetadata(PATH, method));
    for (const [name, method] of methods) {
      if (typeof method !== 'function') continue;
      const layers = layersOf(controller, method);
      const message = messageHandlerOf(method);
      const isHttp = Reflect.hasMetadata(PATH, method);
      if (!layers) {
        if (isHttp) this.routes.set(method, null);
        if (message) this.messages.set(method, null);
        continue;
      }
      const where = `@Idempotent() on ${controller.name}.${name}`;
      // A plain helper under a decorated class does nothing; one that is decorated itself was meant to.
      if (!isHttp && !message && Reflect.hasMetadata(IDEMPOTENT, method)) throw noHandler(where);
      if (isHttp) this.addRoute(controller, name, where, layers);
      if (message) this.addMessage(controller, name, where, layers, message, hasHttp);
    }
  }

  private addRoute(
    controller: AnyClass,
    name: string,
    where: string,
    layers: readonly IdempotencyRouteOptions[],
  ): void {
    const handler = hookHandler(controller.prototype as object, name) as object;
    const version: unknown = Reflect.getMetadata(VERSION, handler) ?? Reflect.getMetadata(VERSION, controller);
    const isSse = Boolean(Reflect.getMetadata(SSE, handler));
    if (isSse) watchConnections(handler);
    const route = resolveRoute(handler, where, this.settings, layers, { version, isSse });
    if (route.policy.transaction) this.needs.transactions ??= where;
    if (isSse) this.needs.events ??= where;
    this.routes.set(handler, route);
  }

  private addMessage(
    controller: AnyClass,
    name: string,
    where: string,
    layers: readonly IdempotencyRouteOptions[],
    message: MessageHandler,
    hasHttp: boolean,
  ): void {
    refuseTransport(message, where);
    const handler = hookHandler(controller.prototype as object, name) as object;
    const isHttp = Reflect.hasMetadata(PATH, handler);
    // What is set for the requests of a controller may mean nothing for its messages.
    const own = isHttp ? [] : hasHttp ? layersOn(handler) : layers;
    const route = resolveMessageRoute(where, this.settings, layers, own, {
      handler,
      operation: operationOf(message, `${controller.name}.${name}`),
      isEvent: message.isEvent,
      handlersOf: (pattern) => this.events.of(message, pattern),
    });
    if (route.policy.transaction) this.needs.transactions ??= where;
    this.events.add(message);
    this.messages.set(handler, route);
  }

  /** A handler that was not there at boot, or that something has wrapped since: protected all the same. */
  private addLate(handler: object, controller: AnyClass): HttpRoute | null {
    const layers = layersOf(controller, handler);
    const where = `@Idempotent() on ${controller.name}`;
    const version: unknown = Reflect.getMetadata(VERSION, handler) ?? Reflect.getMetadata(VERSION, controller);
    const isSse = Boolean(Reflect.getMetadata(SSE, handler));
    const route = layers ? resolveRoute(undefined, where, this.settings, layers, { version, isSse }) : null;
    this.routes.set(handler, route);
    return route;
  }

  private addLateMessage(handler: object, controller: AnyClass): MessageRoute | null {
    const layers = layersOf(controller, handler);
    const message = messageHandlerOf(handler);
    const where = `@Idempotent() on ${controller.name}`;
    const route =
      layers && message
        ? resolveMessageRoute(where, this.settings, layers, [], {
            handler: undefined,
            operation: operationOf(message, `${controller.name}.${(handler as { name?: string }).name}`),
            isEvent: message.isEvent,
            handlersOf: () => 1,
          })
        : null;
    this.messages.set(handler, route);
    return route;
  }
}

/** The options on class and method, farthest first, or undefined where the handler is not idempotent. */
function layersOf(controller: object, method: object): readonly IdempotencyRouteOptions[] | undefined {
  const onClass = Reflect.getMetadata(IDEMPOTENT, controller) as Layer;
  const onMethod = Reflect.getMetadata(IDEMPOTENT, method) as Layer;
  if (onMethod === false || (onMethod === undefined && (onClass === undefined || onClass === false))) return undefined;
  return [onClass, onMethod].filter((layer) => layer !== undefined && layer !== false);
}

/** What stands on the method itself. */
function layersOn(method: object): readonly IdempotencyRouteOptions[] {
  const onMethod = Reflect.getMetadata(IDEMPOTENT, method) as Layer;
  return onMethod ? [onMethod] : [];
}

// Its own metadata key, so that a class which two applications share is guarded once.
const WATCHED = Symbol.for('nestjs-idempotency:watched');

/** Runs after all of the route's guards, before Nest begins to watch the connection. */
const connectionWatch: CanActivate = {
  canActivate: (context) => {
    connectionOf(new HttpExchange(context).request);
    return true;
  },
};

function watchConnections(handler: object): void {
  if (Reflect.hasMetadata(WATCHED, handler)) return;
  const guards = (Reflect.getMetadata(GUARDS, handler) ?? []) as readonly unknown[];
  Reflect.defineMetadata(GUARDS, [...guards, connectionWatch], handler);
  Reflect.defineMetadata(WATCHED, true, handler);
}
