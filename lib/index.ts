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
  StreamOptions,
} from './nest/options.js';
export { cloudEventKey } from './keys/cloud-event-key.js';
export { webhookKey } from './keys/webhook-key.js';
export type { RpcErrorBody } from './messages/microservices.js';
export { memoryStore, type MemoryStoreOptions } from './stores/memory/memory-store.js';

export type { IdempotencyRunContext, RunManager } from './core/context.js';
export type {
  EventLog,
  StreamBatch,
  StreamEnd,
  StreamHead,
  StreamItem,
  StreamPage,
  StreamRef,
} from './core/event-log.js';
export type { StepLog } from './core/step-log.js';
export type { StepContext } from './core/steps.js';
export type { StoreTransaction, StoreTransactions } from './core/transactions.js';
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
  StreamedAnswer,
} from './core/record.js';
export type { RecordName } from './core/record-key.js';
export type {
  AbandonOptions,
  ClaimRequest,
  ClaimResult,
  IdempotencyStore,
  IdempotencyStoreFactory,
  RenewResult,
  Resolution,
  StoreContainer,
  WriteResult,
} from './core/store.js';
export type { Clock } from './core/clock.js';
export { parseDuration } from './core/duration.js';
export { withDeadline } from './core/deadline.js';
export {
  ClientLeftError,
  IdempotencyCancelledError,
  IdempotencyClaimLostError,
  IdempotencyConfigError,
  IdempotencyCursorInvalidError,
  IdempotencyError,
  type IdempotencyErrorCode,
  IdempotencyInProgressError,
  IdempotencyKeyInvalidError,
  IdempotencyKeyMissingError,
  IdempotencyKeyReusedError,
  IdempotencyOutcomeUnknownError,
  IdempotencyResponseNotKeptError,
  IdempotencyStepError,
  IdempotencyStoreError,
  IdempotencyStreamLimitError,
  IdempotencyTooManyStreamsError,
  IndeterminateError,
  NotExecutedError,
} from './core/errors.js';
export type { AnswerOutcome, RecordWhen } from './core/record-when.js';
export { IdempotencyHttpException, type ProblemBody } from './http/problem.js';
