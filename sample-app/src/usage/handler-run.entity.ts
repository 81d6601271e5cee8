import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

/** One run of a handler that costs money: what a replay is not. */
@Entity('handler_runs')
export class HandlerRun {
  @PrimaryColumn('uuid') id: string;
  @Column('text') tenant: string;
  @Column('text') operation: string;
  /** 2 and more: an earlier run of the same request did not finish. */
  @Column('integer') attempt: number;
  /** The steps that this run has done itself, in the order in which they were recorded. */
  @Column('jsonb', { default: [] }) steps: readonly string[];
  @CreateDateColumn({ name: 'started_at', type: 'timestamptz' }) startedAt: Date;
}
