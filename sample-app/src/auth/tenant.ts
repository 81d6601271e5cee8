import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Request } from 'express';

export interface Tenant {
  readonly id: string;
}

export type TenantRequest = Request & { tenant?: Tenant };

/** The tenant that `TenantGuard` has found for this request. */
export function tenantOf(context: ExecutionContext): Tenant {
  const { tenant } = context.switchToHttp().getRequest<TenantRequest>();
  if (!tenant) throw new Error('This route has no TenantGuard before it.');
  return tenant;
}

export const CurrentTenant = createParamDecorator((_data: unknown, context: ExecutionContext) => tenantOf(context));
