/// <reference types="multer" />
import { Body, Controller, Post, UploadedFile, UseGuards, UseInterceptors } from '@nestjs/common';
import { FileInterceptor } from '@nestjs/platform-express';
import { IsOptional, IsString, MaxLength } from 'class-validator';
import { Idempotent, IdempotencyContext } from 'nestjs-idempotency';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { ApiError } from '../api/api-error.js';
import { CurrentTenant } from '../auth/tenant.js';
import type { Tenant } from '../auth/tenant.js';
import { TenantGuard } from '../auth/tenant.guard.js';
import { DocumentsService, type DocumentAnswer } from './documents.service.js';

const LARGEST_FILE = 1024 * 1024;
/** The parts of the largest file, written as JSON, where each byte may become an escape of six. */
const LARGEST_STEP = 8 * LARGEST_FILE;

export class DocumentFields {
  @IsOptional()
  @IsString()
  @MaxLength(200)
  title?: string;
}

@Controller('v1/documents')
@UseGuards(TenantGuard)
export class DocumentsController {
  constructor(private readonly documents: DocumentsService) {}

  /**
   * Many paid calls in a row. `'rerun'` goes on after a crash without asking anybody; the steps see to it
   * that it goes on where the crash was, and does not begin from the front.
   */
  @Post()
  @Idempotent({ afterCrash: 'rerun', maxRecordBytes: LARGEST_STEP })
  @UseInterceptors(FileInterceptor('file', { limits: { fileSize: LARGEST_FILE, files: 1 } }))
  create(
    @UploadedFile() file: Express.Multer.File | undefined,
    @Body() { title }: DocumentFields,
    @CurrentTenant() tenant: Tenant,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<DocumentAnswer> {
    const text = file?.buffer.toString('utf8').trim();
    if (!file || !text) {
      throw new ApiError(400, { message: 'Send a text as the field `file`.', param: 'file', code: 'missing_file' });
    }
    const upload = { title: title ?? file.originalname, filename: file.originalname, bytes: file.size, text };
    return this.documents.index(tenant.id, upload, context);
  }
}
