/** Injection tokens. `Symbol.for`: the same for the ESM and the CommonJS build. */
export const IDEMPOTENCY_OPTIONS = Symbol.for('nestjs-idempotency:options');
export const IDEMPOTENCY_SETTINGS = Symbol.for('nestjs-idempotency:settings');
export const IDEMPOTENCY_MICROSERVICES = Symbol.for('nestjs-idempotency:microservices');
