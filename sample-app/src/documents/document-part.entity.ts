import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('document_parts')
export class StoredDocumentPart {
  @PrimaryColumn('text', { name: 'document_id' }) documentId: string;
  @PrimaryColumn('integer') position: number;
  @Column('text') content: string;
  @Column('jsonb') embedding: readonly number[];
}
