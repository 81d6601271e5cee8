import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

@Entity('documents')
export class StoredDocument {
  @PrimaryColumn('text') id: string;
  @Column('text') tenant: string;
  @Column('text') title: string;
  @Column('text') filename: string;
  @Column('integer') bytes: number;
  /** Empty until the pipeline has come so far. */
  @Column('text', { nullable: true }) summary: string | null;
  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' }) createdAt: Date;
}
