import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The tables of the service itself. */
export class CreateSampleTables1764100000000 implements MigrationInterface {
  readonly name = 'CreateSampleTables1764100000000';

  async up(queryRunner: QueryRunner): Promise<void> {
    for (const statement of CREATE) await queryRunner.query(statement);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(
      'DROP TABLE outbox_messages, credit_purchases, payment_requests, payment_charges, document_parts, documents, model_calls, handler_runs',
    );
  }
}

const CREATE = [
  `CREATE TABLE handler_runs (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    operation text NOT NULL,
    attempt integer NOT NULL,
    steps jsonb NOT NULL DEFAULT '[]',
    started_at timestamptz NOT NULL DEFAULT now()
  )`,
  'CREATE INDEX handler_runs_of_tenant ON handler_runs (tenant, started_at)',
  `CREATE TABLE model_calls (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES handler_runs (id),
    kind text NOT NULL,
    model text NOT NULL,
    input_tokens integer NOT NULL,
    output_tokens integer NOT NULL DEFAULT 0,
    cost_micro_usd integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
  )`,
  'CREATE INDEX model_calls_of_run ON model_calls (run_id)',
  `CREATE TABLE documents (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    title text NOT NULL,
    filename text NOT NULL,
    bytes integer NOT NULL,
    summary text,
    created_at timestamptz NOT NULL DEFAULT now()
  )`,
  `CREATE TABLE document_parts (
    document_id text NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    position integer NOT NULL,
    content text NOT NULL,
    embedding jsonb NOT NULL,
    PRIMARY KEY (document_id, position)
  )`,
  `CREATE TABLE payment_charges (
    id text PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE,
    customer text NOT NULL,
    amount_cents integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
  )`,
  'CREATE INDEX payment_charges_of_customer ON payment_charges (customer, created_at)',
  `CREATE TABLE payment_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    idempotency_key text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    answered_at timestamptz
  )`,
  `CREATE TABLE credit_purchases (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    credits integer NOT NULL,
    amount_cents integer NOT NULL,
    charge_key text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
  )`,
  'CREATE INDEX credit_purchases_of_tenant ON credit_purchases (tenant, created_at)',
  `CREATE TABLE outbox_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    customer text NOT NULL,
    amount_cents integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    charge_id text
  )`,
  'CREATE INDEX outbox_messages_to_send ON outbox_messages (due_at) WHERE sent_at IS NULL',
];
