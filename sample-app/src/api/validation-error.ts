import type { ValidationError } from '@nestjs/common';
import { ApiError } from './api-error.js';

/** The first thing that is wrong, with the path of the field: `messages.0.role`. */
export function validationError(errors: ValidationError[]): ApiError {
  const path: string[] = [];
  let [error] = errors;
  while (error) {
    path.push(error.property);
    const [message] = Object.values(error.constraints ?? {});
    if (message !== undefined) return new ApiError(400, { message, param: path.join('.'), code: 'invalid_value' });
    error = error.children?.[0];
  }
  return new ApiError(400, { message: 'The request is not valid.' });
}
