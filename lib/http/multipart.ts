import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { canonicalText } from '../core/canonical.js';
import type { HttpExchange } from './http-request.js';
import { UnreadableBodyError } from './unreadable-body.js';

/** A file as Multer and its kin describe it. */
interface UploadedFile {
  readonly fieldname?: string;
  readonly originalname?: string;
  readonly filename?: string;
  readonly mimetype?: string;
  readonly buffer?: Uint8Array;
  readonly path?: string;
}

/** A part as Fastify's multipart plugin attaches it to the body. */
interface AttachedPart {
  readonly type: 'file' | 'field';
  readonly fieldname: string;
  readonly filename?: string;
  readonly mimetype?: string;
  readonly value?: unknown;
  toBuffer?(): Promise<Uint8Array>;
}

/** The parts of a parsed upload, without anything that its boundary or its way to the disk has left. */
export async function multipartParts(exchange: HttpExchange, omit: readonly string[]): Promise<readonly string[]> {
  const files: string[] = [];
  for (const upload of exchange.uploads) {
    for (const file of listFiles(upload)) files.push(await fileText(file));
  }
  const fields = Object.create(null) as Record<string, unknown>; // a field may be named __proto__
  for (const [name, value] of Object.entries((exchange.body ?? {}) as Record<string, unknown>)) {
    const values: unknown[] = [];
    for (const part of Array.isArray(value) ? value : [value]) {
      if (isAttachedFile(part)) files.push(await attachedText(part));
      else values.push(isAttachedField(part) ? part.value : part);
    }
    if (values.length > 0) fields[name] = Array.isArray(value) ? values : values[0];
  }
  if (files.length === 0 && exchange.hasUnreadBody) {
    throw new UnreadableBodyError("Nobody has read the request's multipart body.");
  }
  return [canonicalText(fields, omit), ...files];
}

/** Multer's `req.file`, `req.files` as a list, or as lists by field name. */
function listFiles(upload: unknown): readonly UploadedFile[] {
  if (Array.isArray(upload)) return upload as UploadedFile[];
  const file = upload as UploadedFile;
  if (typeof file.fieldname === 'string' || typeof file.mimetype === 'string') return [file];
  return Object.values(upload as Record<string, UploadedFile[]>).flat();
}

async function fileText(file: UploadedFile): Promise<string> {
  const name = file.originalname ?? file.filename ?? '';
  return canonicalText(['file', file.fieldname ?? '', name, file.mimetype ?? '', await contentHash(file)]);
}

async function contentHash({ buffer, path, fieldname }: UploadedFile): Promise<string> {
  const hash = createHash('sha256');
  if (buffer) return hash.update(buffer).digest('base64url');
  if (typeof path === 'string') {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
    return hash.digest('base64url');
  }
  throw new UnreadableBodyError(
    `The content of the uploaded file '${fieldname ?? ''}' is neither in memory nor on disk.`,
  );
}

async function attachedText(part: AttachedPart): Promise<string> {
  const content = createHash('sha256')
    .update(await part.toBuffer!())
    .digest('base64url');
  return canonicalText(['file', part.fieldname, part.filename ?? '', part.mimetype ?? '', content]);
}

function isAttachedFile(part: unknown): part is AttachedPart {
  const candidate = part as Partial<AttachedPart> | null;
  return typeof part === 'object' && candidate?.type === 'file' && typeof candidate.toBuffer === 'function';
}

function isAttachedField(part: unknown): part is AttachedPart {
  const candidate = part as Partial<AttachedPart> | null;
  return typeof part === 'object' && candidate?.type === 'field' && typeof candidate.fieldname === 'string';
}
