import { HttpException } from '@nestjs/common';

export interface ApiErrorDetails {
  readonly message: string;
  readonly type?: string;
  readonly param?: string | null;
  readonly code?: string | null;
}

/** An error in the shape that clients of the OpenAI API read: `{ error: { message, type, param, code } }`. */
export class ApiError extends HttpException {
  constructor(
    status: number,
    { message, type = 'invalid_request_error', param = null, code = null }: ApiErrorDetails,
    options?: { cause?: unknown },
  ) {
    super({ error: { message, type, param, code } }, status, options);
  }

  static invalidApiKey(): ApiError {
    return new ApiError(401, {
      message: 'Send a valid API key as `Authorization: Bearer …`.',
      code: 'invalid_api_key',
    });
  }
}
