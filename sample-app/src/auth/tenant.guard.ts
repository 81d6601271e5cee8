import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { ApiError } from '../api/api-error.js';
import { bearerKey, tenantOfKey } from './api-keys.js';
import type { TenantRequest } from './tenant.js';

/** Guards run before the idempotency interceptor: who has no valid key gets no replay either. */
@Injectable()
export class TenantGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<TenantRequest>();
    const tenant = tenantOfKey(bearerKey(request));
    if (!tenant) throw ApiError.invalidApiKey();
    request.tenant = tenant;
    return true;
  }
}
