import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { UsageModule } from '../usage/usage.module.js';
import { StoredDocumentPart } from './document-part.entity.js';
import { StoredDocument } from './document.entity.js';
import { DocumentsController } from './documents.controller.js';
import { DocumentsService } from './documents.service.js';

@Module({
  imports: [UsageModule, TypeOrmModule.forFeature([StoredDocument, StoredDocumentPart])],
  controllers: [DocumentsController],
  providers: [DocumentsService],
})
export class DocumentsModule {}
