import { Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { MetadataScanner, ModulesContainer } from '@nestjs/core';
import { IdempotencyConfigError } from '../core/errors.js';
import { HttpExchange } from '../http/http-request.js';
import type { HttpRoute } from '../http/http-route.js';
import { connectionOf } from '../http/staying-connection.js';
import { IDEMPOTENT } from './decorators.js';
import { hookHandler } from './handler-hook.js';
import type { IdempotencyRouteOptions } from './options.js';
import { resolveRoute, type ModuleSettings } from './resolve-options.js';
import { IDEMPOTENCY_SETTINGS } from './tokens.js';

// Nest's own metadata keys; texts that have not changed since its first versions.
const PATH = 'path';
const SSE = '__sse__';
const VERSION = '__version__';
const GUARDS = '__guards__';

type Layer = IdempotencyRouteOptions | false | undefined;
type AnyClass = abstract new (...args: never[]) => object;

/** All protected routes of the application, found and checked at boot. */
@Injectable()
export class RouteTable {
  private readonly routes = new Map<unknown, HttpRoute | null>();
  private readonly scanner = new MetadataScanner();

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
      for (const { metatype } of module.providers.values()) this.refuseProvider(metatype as AnyClass | undefined);
    }
  }

  /** The route that is being called, or null where it is not idempotent. */
  of(context: ExecutionContext): HttpRoute | null {
    const handler = context.getHandler();
    const route = this.routes.get(handler);
    return route === undefined ? this.addLate(handler, context.getClass() as AnyClass) : route;
  }

  private addController(controller: AnyClass | undefined): void {
    if (typeof controller !== 'function' || !controller.prototype) return;
    for (const name of this.scanner.getAllMethodNames(controller.prototype as object)) {
      const method = (controller.prototype as Record<string, unknown>)[name];
      if (typeof method !== 'function') continue;
      const layers = layersOf(controller, method);
      const where = `@Idempotent() on ${controller.name}.${name}`;
      if (!layers) {
        if (Reflect.hasMetadata(PATH, method)) this.routes.set(method, null);
        continue;
      }
      if (!Reflect.hasMetadata(PATH, method)) {
        this.refuseOtherTransport(where, method);
        continue;
      }
      const handler = hookHandler(controller.prototype as object, name);
      const version: unknown = Reflect.getMetadata(VERSION, method) ?? Reflect.getMetadata(VERSION, controller);
      const isSse = Boolean(Reflect.getMetadata(SSE, method));
      if (isSse) watchConnections(handler as object);
      const route = resolveRoute(handler, where, this.settings, layers, { version, isSse });
      if (route.policy.transaction) this.needs.transactions ??= where;
      if (isSse) this.needs.events ??= where;
      this.routes.set(handler, route);
    }
  }

  /** A method of a controller that is no HTTP route: a plain helper under a decorated class, or a message handler. */
  private refuseOtherTransport(where: string, method: object): void {
    const patterns = (Reflect.getMetadataKeys(method) as unknown[]).filter((key) => String(key).includes('pattern'));
    if (patterns.length > 0 || Reflect.hasMetadata(IDEMPOTENT, method)) {
      throw new IdempotencyConfigError(
        `${where}: only HTTP handlers are protected by this decorator. Call IdempotencyService.run() in the handler instead, with the message's id as the key; it would run unprotected otherwise.`,
      );
    }
  }

  /** Gateways, resolvers and services are providers: a decorator on one would do nothing, silently. */
  private refuseProvider(provider: AnyClass | undefined): void {
    if (typeof provider !== 'function' || !provider.prototype) return;
    const decorated = Reflect.hasMetadata(IDEMPOTENT, provider)
      ? provider.name
      : this.scanner
          .getAllMethodNames(provider.prototype as object)
          .filter((name) => {
            const method: unknown = (provider.prototype as Record<string, unknown>)[name];
            return typeof method === 'function' && Reflect.hasMetadata(IDEMPOTENT, method);
          })
          .map((name) => `${provider.name}.${name}`)[0];
    if (decorated !== undefined) {
      throw new IdempotencyConfigError(
        `@Idempotent() on ${decorated}: this is no HTTP controller, and the decorator would do nothing. Call IdempotencyService.run() in the method instead.`,
      );
    }
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
}

/** The options on class and method, farthest first, or undefined where the handler is not idempotent. */
function layersOf(controller: object, method: object): readonly IdempotencyRouteOptions[] | undefined {
  const onClass = Reflect.getMetadata(IDEMPOTENT, controller) as Layer;
  const onMethod = Reflect.getMetadata(IDEMPOTENT, method) as Layer;
  if (onMethod === false || (onMethod === undefined && (onClass === undefined || onClass === false))) return undefined;
  return [onClass, onMethod].filter((layer) => layer !== undefined && layer !== false);
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
