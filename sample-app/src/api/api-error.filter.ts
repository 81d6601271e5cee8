import { Catch, HttpException, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { Response } from 'express';
import { ApiError } from './api-error.js';

/** Gives every error the one shape, also those that Nest throws by itself. */
@Catch()
export class ApiErrorFilter implements ExceptionFilter {
  private readonly logger = new Logger('Api');

  catch(thrown: unknown, host: ArgumentsHost): void {
    const error = this.apiErrorOf(thrown);
    if (error.getStatus() >= 500) this.logger.error(thrown);
    const response = host.switchToHttp().getResponse<Response>();
    // The idempotency library has answered its own errors already.
    if (!response.headersSent) response.status(error.getStatus()).json(error.getResponse());
  }

  private apiErrorOf(thrown: unknown): HttpException {
    if (thrown instanceof ApiError) return thrown;
    if (thrown instanceof HttpException && thrown.getStatus() < 500) {
      return new ApiError(thrown.getStatus(), { message: thrown.message });
    }
    return new ApiError(500, { message: 'The server had an error.', type: 'server_error' });
  }
}
