import { Body, Controller, Get, HttpCode, Post, Query, UseGuards } from '@nestjs/common';
import { IdempotencyService } from 'nestjs-idempotency';
import { ApiError } from '../api/api-error.js';
import { OperatorGuard } from '../auth/operator.guard.js';
import { RecordRequest, ResolveRequest } from './record-requests.js';

/** For the person who has looked at the provider's own list and knows what became of a call. */
@Controller('operator/records')
@UseGuards(OperatorGuard)
export class OperatorController {
  constructor(private readonly idempotency: IdempotencyService) {}

  @Get()
  async show(@Query() { tenant, operation, key }: RecordRequest): Promise<object> {
    const record = await this.idempotency.find({ operation, scope: tenant, key });
    if (!record) throw new ApiError(404, { message: 'There is no such record.', code: 'record_not_found' });
    const { state, attempt, fencingToken, createdAt, completedAt } = record;
    // Not the answer: what a tenant was told is none of the operator's business.
    return { object: 'record', operation, state, attempt, fencingToken, createdAt, completedAt };
  }

  @Post('resolve')
  @HttpCode(200)
  async resolve(@Body() { tenant, operation, key, outcome, status, body }: ResolveRequest): Promise<object> {
    const settlement = outcome === 'rerun' ? outcome : { completed: { status, body } };
    const resolved = await this.idempotency.resolve({ operation, scope: tenant, key }, settlement);
    if (!resolved) {
      throw new ApiError(404, {
        message: 'There is no record of unknown outcome by this name.',
        code: 'record_not_found',
      });
    }
    return { object: 'resolution', outcome };
  }
}
