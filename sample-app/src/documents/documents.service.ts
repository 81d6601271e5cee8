import { Injectable } from '@nestjs/common';
import type { IdempotencyRunContext, StepContext } from 'nestjs-idempotency';
import { DataSource } from 'typeorm';
import { MeteredModel } from '../model/metered-model.js';
import type { CallOptions } from '../model/model.js';
import { BillService } from '../usage/bill.service.js';
import type { HandlerRun } from '../usage/handler-run.entity.js';
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
  readonly summary: string;
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
    const step = this.stepsOf(run, context);
    const pace = this.model.pace(context.signal);
    // The same in every attempt: a second one writes over what the first may have left, not beside it.
    const id = context.downstreamKey('document').replace(/^idem/, 'doc');
    const { title, filename, bytes, text } = upload;

    // A step although it costs nothing: after a crash there may be another version of this code, which
    // cuts elsewhere, and the recorded embeddings would be those of other parts.
    const contents = await step('split', () => splitText(text));
    const parts: StoredDocumentPart[] = [];
    for (const [position, content] of contents.entries()) {
      const embedding = await step(`embed ${position + 1}`, async (one) => {
        await pace();
        return (await this.model.embed(run, content, callOptions(one))).vector;
      });
      parts.push({ documentId: id, position, content, embedding });
    }
    await step('store', () =>
      this.dataSource.transaction(async (manager) => {
        await manager.upsert(StoredDocument, { id, tenant, title, filename, bytes }, ['id']);
        await manager.upsert(StoredDocumentPart, parts, ['documentId', 'position']);
      }),
    );
    const summary = await step('summarise', async (one) => {
      await pace();
      const instruction = { role: 'system', content: 'Summarise the text in one sentence.' };
      const messages = [instruction, { role: 'user', content: text }];
      return (await this.model.chat(run, messages, callOptions(one))).text;
    });
    await this.dataSource.manager.update(StoredDocument, id, { summary });
    return { id, object: 'document', title, filename, bytes, parts: parts.length, summary };
  }

  /** Steps of which the bill shows by which run they were done. */
  private stepsOf(run: HandlerRun, context: IdempotencyRunContext): IdempotencyRunContext['step'] {
    return async (name, fn) => {
      let done = false;
      const result = await context.step(name, (one) => {
        done = true;
        return fn(one);
      });
      if (done) await this.bill.finishStep(run, name);
      return result;
    };
  }
}

/** What a paid call in a step is given: a provider that knows idempotency keys charges a cut step once, too. */
function callOptions({ downstreamKey, signal }: StepContext): CallOptions {
  return { key: downstreamKey, signal };
}
