import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The tables of the service itself. */
export class CreateSampleTables1764100000000 implements MigrationInterface {
  readonly name = 'CreateSampleTables1764100000000';

  async up(queryRunner: QueryRunner): Promise<void> {
    for (const statement of CREATE) await queryRunner.query(statement);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(
      'DROP TABLE credit_purchases, payment_charges, document_parts, documents, model_calls, handler_runs',
    );
  }
}

const CREATE = [
  `CREATE TABLE handler_runs (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    operation text NOT NULL,
    attempt integer NOT NULL,
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
  `CREATE TABLE credit_purchases (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    credits integer NOT NULL,
    amount_cents integer NOT NULL,
    charge_id text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
  )`,
  'CREATE INDEX credit_purchases_of_tenant ON credit_purchases (tenant, created_at)',
];
