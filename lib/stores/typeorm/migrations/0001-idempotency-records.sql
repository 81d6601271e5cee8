-- The tables of nestjs-idempotency, version 1: the same as the migration CreateIdempotencyRecords1764000000000
-- creates, for those who keep their schema in SQL. Names of constraint and index are those that TypeORM gives,
-- so that `synchronize` and generated migrations find nothing to change.
--
-- fillfactor: every record is written at least twice; room on the page lets the second version, about twice as long
-- with its answer, lie beside the first, and no index is touched.
CREATE TABLE "idempotency_records" (
  "record_key" bytea NOT NULL,
  "record_id" uuid NOT NULL,
  "operation" text NOT NULL,
  "fingerprint" text NOT NULL,
  "state" text NOT NULL,
  "claim_token" uuid,
  "given_back_token" uuid,
  "fencing_token" bigint NOT NULL,
  "attempt" integer NOT NULL,
  "created_at" timestamptz NOT NULL,
  "claimed_at" timestamptz NOT NULL,
  "lease_until" timestamptz NOT NULL,
  "completed_at" timestamptz,
  "expires_at" timestamptz,
  "purge_after" timestamptz,
  "retention_ms" bigint NOT NULL,
  "keep_abandoned" boolean NOT NULL,
  "prior" jsonb,
  "status" smallint,
  "headers" text,
  "body" bytea,
  "not_kept" text,
  "stream_end" text,
  "stream_items" integer,
  "stream_id" uuid,
  "stream_head" text,
  "stream_tail" integer,
  "cancel_requested" boolean,
  "has_steps" boolean,
  "left_behind" uuid[],
  CONSTRAINT "PK_cbec2fb34d760b568501976fd2b" PRIMARY KEY ("record_key")
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX "IDX_d207af85c702f6caac45e51e0a" ON "idempotency_records" ("purge_after");

-- The items of streams, a row for each batch.
CREATE TABLE "idempotency_records_events" (
  "stream_id" uuid NOT NULL,
  "last_seq" integer NOT NULL,
  "sizes" integer[] NOT NULL,
  "data" bytea NOT NULL,
  CONSTRAINT "PK_0e70df24e4117dbda055bd1d476" PRIMARY KEY ("stream_id", "last_seq")
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The finished steps of operations that may run again.
CREATE TABLE "idempotency_records_steps" (
  "record_id" uuid NOT NULL,
  "name_hash" bytea NOT NULL,
  "name" text NOT NULL,
  "result" bytea NOT NULL,
  CONSTRAINT "PK_6c89a3afac3a84cf5accec25496" PRIMARY KEY ("record_id", "name_hash")
) WITH (autovacuum_vacuum_scale_factor = 0.05);
