import { Body, Controller, HttpCode, Post, Req, Res, type INestApplication } from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { IdempotencyModule, Idempotent, IdempotencyContext, memoryStore } from 'nestjs-idempotency';
import type { IdempotencyRunContext, IdempotencyStore } from 'nestjs-idempotency';
import { faultStore, type FaultControls } from 'nestjs-idempotency/testing';
import { EventEmitter } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

export const PLATFORMS = ['Express', 'Fastify'] as const;
export type Platform = (typeof PLATFORMS)[number];

/** What happens in one run of a handler before it answers. */
export type Plan = (request: IncomingMessage) => void | Promise<void>;

/** The handlers' work: a plan for each run, and what they were given. */
export class Work {
  readonly runs: IdempotencyRunContext[] = [];
  readonly plans: Plan[] = [];
  tokenDelayMs = 5;

  async perform(request: PlatformRequest, context: IdempotencyRunContext): Promise<string> {
    const number = this.runs.push(context);
    await this.plans.shift()?.('raw' in request ? request.raw : request);
    return `run_${number}`;
  }
}

type PlatformRequest = IncomingMessage | { readonly raw: IncomingMessage };
type PlatformResponse = ServerResponse | { readonly raw: ServerResponse };

/** What a streamed answer says. */
export const TOKENS: readonly string[] = Array.from({ length: 30 }, (_, index) => `token ${index} 🙂 `);

/** A request as the server saw it, and when. */
export interface SeenRequest {
  readonly key: string | undefined;
  readonly at: number;
  status?: number;
}

@Controller('v1')
@Idempotent()
class ProviderController {
  constructor(private readonly work: Work) {}

  @Post('chat/completions')
  @HttpCode(200)
  async openai(@Req() request: PlatformRequest, @IdempotencyContext() context: IdempotencyRunContext): Promise<object> {
    const id = await this.work.perform(request, context);
    const message = { role: 'assistant', content: id };
    return { id, object: 'chat.completion', created: 1, model: 'm', choices: [{ index: 0, message }] };
  }

  /** Also the shape of a chat completion, in pieces: the route writes them itself. */
  @Post('streamed/chat/completions')
  async openaiStream(
    @Req() request: PlatformRequest,
    @Res() response: PlatformResponse,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<void> {
    const raw = 'raw' in response ? response.raw : response;
    const id = await this.work.perform(request, context);
    raw.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const token of TOKENS) {
      const chunk = { id, object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content: token } }] };
      raw.write(`data: ${JSON.stringify(chunk)}\n\n`);
      await pause(this.work.tokenDelayMs);
    }
    raw.end('data: [DONE]\n\n');
  }

  @Post('messages')
  @HttpCode(200)
  async anthropic(
    @Req() request: PlatformRequest,
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<object> {
    const id = await this.work.perform(request, context);
    return { id, type: 'message', role: 'assistant', model: 'm', content: [{ type: 'text', text: id }] };
  }

  @Post('payment_intents')
  @HttpCode(200)
  async stripe(
    @Req() request: PlatformRequest,
    @Body() body: { amount: string },
    @IdempotencyContext() context: IdempotencyRunContext,
  ): Promise<object> {
    const id = await this.work.perform(request, context);
    return { id, object: 'payment_intent', amount: Number(body.amount) };
  }
}

export interface ProviderApp {
  readonly url: string;
  readonly port: number;
  readonly work: Work;
  readonly seen: SeenRequest[];
  readonly store: IdempotencyStore & FaultControls;
  /** Resolves when a response of this status has gone out. */
  answered(status: number): Promise<void>;
  close(): Promise<void>;
}

/** A service that speaks the protocols of the three providers, on one platform, each POST idempotent. */
export async function startProviderApp(platform: Platform): Promise<ProviderApp> {
  const work = new Work();
  const store = faultStore(memoryStore());
  const module = await Test.createTestingModule({
    imports: [IdempotencyModule.forRoot({ store, scope: 'global', lease: '2s' })],
    controllers: [ProviderController],
    providers: [{ provide: Work, useValue: work }],
  }).compile();
  const adapter = platform === 'Express' ? new ExpressAdapter() : new FastifyAdapter();
  const app: INestApplication = module.createNestApplication(adapter as never, { logger: false });
  await app.listen(0, '127.0.0.1');
  const server = app.getHttpServer() as Server;
  const { port } = server.address() as { port: number };
  const seen: SeenRequest[] = [];
  const answers = new EventEmitter();
  server.prependListener('request', (request, response) => {
    const entry: SeenRequest = { key: request.headers['idempotency-key'] as string | undefined, at: performance.now() };
    seen.push(entry);
    response.once('finish', () => {
      entry.status = response.statusCode;
      answers.emit(String(response.statusCode));
    });
  });
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    work,
    seen,
    store,
    answered: (status) => new Promise((resolve) => answers.once(String(status), () => resolve())),
    close: () => app.close(),
  };
}
