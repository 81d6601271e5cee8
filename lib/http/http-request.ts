import type { ExecutionContext } from '@nestjs/common';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';

/** What both platforms' requests have, by one name or another. */
interface PlatformRequest {
  readonly raw?: IncomingMessage;
  readonly body?: unknown;
  readonly rawBody?: unknown;
  readonly file?: unknown;
  readonly files?: unknown;
  readonly originalUrl?: string;
  readonly url: string;
  readonly baseUrl?: string;
  readonly route?: { readonly path?: unknown };
  readonly routeOptions?: { readonly url?: string };
}

interface PlatformReply {
  readonly raw?: ServerResponse;
  readonly statusCode: number;
  getHeaders?(): OutgoingHttpHeaders;
}

/** An HTTP request and its response, the same on Express and Fastify. */
export class HttpExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  private readonly platformRequest: PlatformRequest;
  private readonly platformReply: PlatformReply;

  constructor(context: ExecutionContext) {
    const http = context.switchToHttp();
    this.platformRequest = http.getRequest<PlatformRequest>();
    this.platformReply = http.getResponse<PlatformReply>();
    this.request = this.platformRequest.raw ?? (this.platformRequest as unknown as IncomingMessage);
    this.response = this.platformReply.raw ?? (this.platformReply as unknown as ServerResponse);
  }

  get method(): string {
    return this.request.method ?? 'POST';
  }

  /** The route's pattern with its global prefix, as the router matched it: `/v1/orders/:id`. */
  get routePattern(): string {
    const { routeOptions, route, baseUrl } = this.platformRequest;
    if (routeOptions?.url !== undefined) return routeOptions.url;
    return `${baseUrl ?? ''}${typeof route?.path === 'string' ? route.path : String(route?.path ?? '')}`;
  }

  /** The status that the route answers with unless its handler says otherwise. */
  get presetStatus(): number {
    return this.platformReply.statusCode;
  }

  /** Path and query as the client sent them. */
  get url(): string {
    return this.platformRequest.originalUrl ?? this.platformRequest.url;
  }

  get body(): unknown {
    return this.platformRequest.body;
  }

  /** The body's bytes, where the application keeps them (`rawBody: true`). */
  get rawBody(): Buffer | undefined {
    const { rawBody } = this.platformRequest;
    return Buffer.isBuffer(rawBody) ? rawBody : undefined;
  }

  /** What an upload interceptor put beside the body. */
  get uploads(): readonly unknown[] {
    const { file, files } = this.platformRequest;
    // Fastify's multipart plugin has functions by these names.
    return [file, files].filter((value) => typeof value === 'object' && value !== null);
  }

  /** The content type in lower case, without parameters; empty where there is none. */
  get mediaType(): string {
    return (this.request.headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase();
  }

  /** Whether the request has a body that nobody has read so far. */
  get hasUnreadBody(): boolean {
    const { headers } = this.request;
    const announced = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
    return announced && (this.body === undefined || this.body === null) && !this.request.readableEnded;
  }

  /**
   * Fastify keeps headers beside the response until it sends it. An answer that is written past it
   * takes them along: the ones of CORS or a rate limit belong to every answer.
   */
  adoptPlatformHeaders(): void {
    if (this.platformReply.raw === undefined || this.response.headersSent) return;
    for (const [name, value] of Object.entries(this.platformReply.getHeaders?.() ?? {})) {
      if (value !== undefined) this.response.setHeader(name, value);
    }
  }

  /** A view has nothing to show on an answer that is out; without this the engine would fail over a missing model. */
  muteViews(): void {
    const reply = this.platformReply as { render?: unknown; view?: unknown };
    if (typeof reply.render === 'function') reply.render = () => undefined;
    if (typeof reply.view === 'function') reply.view = () => reply;
  }
}
