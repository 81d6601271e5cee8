import { currentScope } from '../core/run-scope.js';

const HOOKED = Symbol.for('nestjs-idempotency:hooked');

type Handler = (this: unknown, ...args: unknown[]) => unknown;
type HookedHandler = Handler & { [HOOKED]?: true };

/**
 * Puts a shell around a controller's method, so that a run knows the moment at which the handler
 * itself starts: after pipes and inner interceptors. Without a run the shell only calls the method.
 *
 * Done at boot, before Nest has looked the methods up for its routes, and once per method however
 * many applications share the class.
 */
export function hookHandler(prototype: object, name: string): unknown {
  const methods = prototype as Record<string, HookedHandler>;
  const original = methods[name]!;
  if (original[HOOKED]) return original;
  const hooked: HookedHandler = function (this: unknown, ...args: unknown[]) {
    const around = currentScope()?.aroundHandler;
    const start = (): unknown => original.apply(this, args);
    return around ? around(hooked, start) : start();
  };
  // Routes, guards, filters and everything else that decorators have left on the method.
  for (const key of Reflect.getMetadataKeys(original) as unknown[]) {
    Reflect.defineMetadata(key, Reflect.getMetadata(key, original), hooked);
  }
  for (const key of Reflect.ownKeys(original)) {
    if (key === 'prototype' || key === 'arguments' || key === 'caller') continue;
    Object.defineProperty(hooked, key, Object.getOwnPropertyDescriptor(original, key)!);
  }
  hooked[HOOKED] = true;
  Object.defineProperty(prototype, name, { configurable: true, enumerable: false, writable: true, value: hooked });
  return hooked;
}
