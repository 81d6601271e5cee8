import { Column, CreateDateColumn, Entity, JoinColumn, ManyToOne, PrimaryColumn } from 'typeorm';
import { HandlerRun } from './handler-run.entity.js';

export type ModelCallKind = 'chat' | 'embedding';

/** One line of the bill. */
@Entity('model_calls')
export class ModelCall {
  @PrimaryColumn('uuid') id: string;
  @ManyToOne(() => HandlerRun) @JoinColumn({ name: 'run_id' }) run: HandlerRun;
  @Column('text') kind: ModelCallKind;
  @Column('text') model: string;
  @Column('integer', { name: 'input_tokens' }) inputTokens: number;
  @Column('integer', { name: 'output_tokens' }) outputTokens: number;
  /** In millionths of a dollar: money is counted in whole numbers. */
  @Column('integer', { name: 'cost_micro_usd' }) costMicroUsd: number;
  @CreateDateColumn({ name: 'started_at', type: 'timestamptz' }) startedAt: Date;
  /** Empty: the call was made and paid, and nobody was there to hear the answer. */
  @Column('timestamptz', { name: 'finished_at', nullable: true }) finishedAt: Date | null;
}
