import type { INestApplication, INestMicroservice, ModuleMetadata, Type } from '@nestjs/common';
import {
  ClientProxyFactory,
  type ClientOptions,
  type ClientProxy,
  type MicroserviceOptions,
} from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { IdempotencyModule, IdempotencyService, memoryStore, type IdempotencyModuleOptions } from 'nestjs-idempotency';
import { lastValueFrom, toArray } from 'rxjs';

export interface Running {
  readonly idempotency: IdempotencyService;
  close(): Promise<void>;
}

export interface AppOptions {
  controllers: Type[];
  providers?: ModuleMetadata['providers'];
  imports?: ModuleMetadata['imports'];
  /** Merged over `{ store: memoryStore(), scope: 'global', replayCache: false }`. */
  idempotency?: Partial<IdempotencyModuleOptions>;
}

const toClose: { close(): unknown }[] = [];
// What a failed test left behind ends with its file.
afterAll(async () => void (await Promise.all(toClose.splice(0).map(async (one) => one.close()))));

/** An application that does nothing but handle messages. */
export async function startMicroservice(options: AppOptions, transport: MicroserviceOptions): Promise<Running> {
  const module = await compile(options);
  const app: INestMicroservice = module.createNestMicroservice<MicroserviceOptions>({ ...transport, logger: false });
  toClose.push(app);
  await app.listen();
  return { idempotency: app.get(IdempotencyService), close: () => app.close() };
}

/** An application that handles requests and messages. */
export async function startHybrid(
  options: AppOptions,
  transport: MicroserviceOptions,
  hybrid: { inheritAppConfig?: boolean } = {},
): Promise<Running & { readonly url: string }> {
  const module = await compile(options);
  const app: INestApplication = module.createNestApplication({ logger: false });
  toClose.push(app);
  app.connectMicroservice<MicroserviceOptions>(transport, hybrid);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
  const url = (await app.getUrl()).replace('[::1]', '127.0.0.1');
  return { url, idempotency: app.get(IdempotencyService), close: () => app.close() };
}

export function compile({ controllers, providers, imports, idempotency }: AppOptions) {
  return Test.createTestingModule({
    imports: [
      IdempotencyModule.forRoot({ store: memoryStore(), scope: 'global', replayCache: false, ...idempotency }),
      ...(imports ?? []),
    ],
    controllers,
    providers: providers ?? [],
  }).compile();
}

export async function connectClient(transport: ClientOptions): Promise<ClientProxy> {
  const client = ClientProxyFactory.create(transport);
  toClose.push(client);
  await client.connect();
  return client;
}

/** All values of a reply, or what the asker was told instead. */
export async function ask(client: ClientProxy, pattern: unknown, data: unknown): Promise<unknown[]> {
  return lastValueFrom(client.send(pattern, data).pipe(toArray()));
}

export async function refusalOf(client: ClientProxy, pattern: unknown, data: unknown): Promise<unknown> {
  return ask(client, pattern, data).then(
    (values) => ({ values }),
    (error: unknown) => error,
  );
}
