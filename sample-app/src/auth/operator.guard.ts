import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { Request } from 'express';
import { ApiError } from '../api/api-error.js';
import { bearerKey, isOperatorKey } from './api-keys.js';

/** For the people who run the service, not for its tenants. */
@Injectable()
export class OperatorGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    if (!isOperatorKey(bearerKey(context.switchToHttp().getRequest<Request>()))) throw ApiError.invalidApiKey();
    return true;
  }
}
