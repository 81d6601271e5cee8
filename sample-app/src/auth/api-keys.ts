import type { Request } from 'express';
import type { Tenant } from './tenant.js';

// A service in earnest keeps hashes of its keys in the database. These are for trying it out.
const TENANTS: ReadonlyMap<string, Tenant> = new Map([
  ['sk-acme-demo', { id: 'acme' }],
  ['sk-globex-demo', { id: 'globex' }],
]);
const OPERATOR_KEY = 'sk-operator-demo';

export function tenantOfKey(key: string | undefined): Tenant | undefined {
  return key === undefined ? undefined : TENANTS.get(key);
}

export function isOperatorKey(key: string | undefined): boolean {
  return key === OPERATOR_KEY;
}

export function bearerKey(request: Request): string | undefined {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
}
