import { Injectable } from '@nestjs/common';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { DataSource } from 'typeorm';
import { MeteredModel } from '../model/metered-model.js';
import { BillService } from '../usage/bill.service.js';
import { StoredDocumentPart } from './document-part.entity.js';
import { StoredDocument } from './document.entity.js';
import { splitText } from './split.js';

export interface Upload {
  readonly title: string;
  readonly filename: string;
  readonly bytes: number;
  readonly text: string;
}

export interface DocumentAnswer {
  readonly id: string;
  readonly object: 'document';
  readonly title: string;
  readonly filename: string;
  readonly bytes: number;
  readonly parts: number;
}

@Injectable()
export class DocumentsService {
  constructor(
    private readonly model: MeteredModel,
    private readonly bill: BillService,
    private readonly dataSource: DataSource,
  ) {}

  async index(tenant: string, upload: Upload, context: IdempotencyRunContext): Promise<DocumentAnswer> {
    const run = await this.bill.beginRun(tenant, context);
    // The same in every attempt: a second one writes over what the first may have left, not beside it.
    const id = context.downstreamKey('document').replace(/^idem/, 'doc');
    const { title, filename, bytes, text } = upload;
    const parts: StoredDocumentPart[] = [];
    for (const [position, content] of splitText(text).entries()) {
      const options = { key: context.downstreamKey(`part-${position}`), signal: context.signal };
      const { vector } = await this.model.embed(run, content, options);
      parts.push({ documentId: id, position, content, embedding: vector });
    }
    await this.dataSource.transaction(async (manager) => {
      await manager.upsert(StoredDocument, { id, tenant, title, filename, bytes }, ['id']);
      await manager.upsert(StoredDocumentPart, parts, ['documentId', 'position']);
    });
    return { id, object: 'document', title, filename, bytes, parts: parts.length };
  }
}
