export { IdempotencyModule } from './nest/idempotency.module.js';
export { Idempotent, IdempotencyContext } from './nest/decorators.js';
export {
  IdempotencyService,
  type IdempotencyOperation,
  type IdempotencyResult,
  type ManualClaim,
  type ManualClaimResult,
} from './nest/idempotency.service.js';
export type {
  IdempotencyModuleAsyncOptions,
  IdempotencyModuleOptions,
  IdempotencyOptionsFactory,
  IdempotencyRouteOptions,
  PurgeOptions,
  ReplayCacheOptions,
} from './nest/options.js';
export { memoryStore, type MemoryStoreOptions } from './stores/memory/memory-store.js';

export type { IdempotencyRunContext } from './core/context.js';
export type { Duration } from './core/duration.js';
export type { RecoverFunction, SettledAnswer, Settlement } from './core/policy.js';
export type {
  AnswerNotKept,
  Claim,
  ClaimRef,
  KeptAnswer,
  RecordedAnswer,
  RecordedHeader,
  RecordState,
  RecordView,
} from './core/record.js';
export type { RecordName } from './core/record-key.js';
export type {
  ClaimRequest,
  ClaimResult,
  IdempotencyStore,
  IdempotencyStoreFactory,
  Resolution,
  StoreContainer,
  WriteResult,
} from './core/store.js';
export type { Clock } from './core/clock.js';
export { parseDuration } from './core/duration.js';
export { withDeadline } from './core/deadline.js';
export {
  IdempotencyClaimLostError,
  IdempotencyConfigError,
  IdempotencyError,
  type IdempotencyErrorCode,
  IdempotencyInProgressError,
  IdempotencyKeyInvalidError,
  IdempotencyKeyMissingError,
  IdempotencyKeyReusedError,
  IdempotencyOutcomeUnknownError,
  IdempotencyResponseNotKeptError,
  IdempotencyStoreError,
  IndeterminateError,
  NotExecutedError,
} from './core/errors.js';
export type { AnswerOutcome, RecordWhen } from './http/record-when.js';
export { ClientLeftError } from './http/http-run.js';
export { IdempotencyHttpException, type ProblemBody } from './http/problem.js';
