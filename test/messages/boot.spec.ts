import { Controller, Injectable, Post, type Type } from '@nestjs/common';
import { Mutation, Query, ResolveField, Resolver } from '@nestjs/graphql';
import { EventPattern, GrpcMethod, MessagePattern } from '@nestjs/microservices';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { Idempotent, memoryStore, type IdempotencyRouteOptions, type IdempotencyStore } from 'nestjs-idempotency';
import { compile } from './support/application.js';

const key = (): string => 'k';

async function boot(controllers: Type[], providers: Type[] = [], store?: IdempotencyStore): Promise<string> {
  try {
    const module = await compile({ controllers, providers, idempotency: store ? { store } : {} });
    await module.init();
    await module.close();
    return 'booted';
  } catch (error) {
    return (error as Error).message;
  }
}

function handlerWith(options: IdempotencyRouteOptions, onClass?: IdempotencyRouteOptions): Type {
  @Controller()
  class OrdersController {
    @MessagePattern('orders.create')
    @Idempotent(options)
    create(): void {}
  }
  if (onClass) Idempotent(onClass)(OrdersController);
  return OrdersController;
}

describe('handlers of messages at boot', () => {
  it('boot with a key, of their own or of their controller', async () => {
    expect(await boot([handlerWith({ key })])).toBe('booted');
    expect(await boot([handlerWith({}, { key })])).toBe('booted');
    expect(await boot([handlerWith({ key: 'fingerprint', retention: '1m' })])).toBe('booted');
  });

  it.each([
    [{}, 'say where its key is'],
    [{ key: 'header' as const }, 'say where its key is'],
    [{ key: 'fingerprint' as const }, 'needs a retention'],
    [{ key, header: 'X-Key' }, "'header' is for HTTP"],
    [{ key, onDisconnect: 'cancel' as const }, "'onDisconnect' is for HTTP"],
    [{ key, stream: { flushItems: 1 } }, "'stream' is for HTTP"],
    [{ key, fingerprint: { headers: ['a'] } }, "'fingerprint.headers' is for HTTP"],
    [{ key, lease: 0 }, 'lease'],
    [{ key, transaction: true }, 'transaction: true needs a store'],
  ])('do not boot with @Idempotent(%j): %s', async (options, message) => {
    const said = await boot([handlerWith(options)]);
    expect(said).toContain('@Idempotent() on OrdersController.create');
    expect(said).toContain(message);
  });

  it('do not boot with an option for HTTP on a controller that has messages only', async () => {
    expect(await boot([handlerWith({ key }, { header: 'X-Key' })])).toContain("'header' is for HTTP");
  });

  it('boot beside handlers of requests, whose options they do not mind, and are never left out', async () => {
    @Controller('mixed')
    @Idempotent({ header: 'X-Key' })
    class MixedController {
      @Post() create(): void {}
      @EventPattern<unknown>('mixed')
      @Idempotent({ key })
      told(): void {}
    }
    expect(await boot([MixedController])).toBe('booted');

    @Controller('forgotten')
    @Idempotent()
    class ForgottenController {
      @Post() create(): void {}
      @EventPattern<unknown>('forgotten') told(): void {}
    }
    expect(await boot([ForgottenController])).toContain('@Idempotent() on ForgottenController.told: a message has no');

    @Controller('exempt')
    @Idempotent()
    class ExemptController {
      @Post() create(): void {}
      @EventPattern<unknown>('exempt')
      @Idempotent(false)
      told(): void {}
    }
    expect(await boot([ExemptController])).toBe('booted');
  });

  it('do not boot for gRPC', async () => {
    @Controller()
    class OrdersController {
      @GrpcMethod('Orders', 'Create')
      @Idempotent({ key })
      create(): void {}
    }
    expect(await boot([OrdersController])).toContain('gRPC methods are not protected');
  });

  it('need no @nestjs/microservices where there are none', async () => {
    expect(await boot([], [], memoryStore())).toBe('booted');
  });
});

describe('what is neither a request nor a message', () => {
  @WebSocketGateway()
  class ChatGateway {
    @SubscribeMessage('say')
    @Idempotent({ key })
    say(): void {}
  }
  @WebSocketGateway()
  @Idempotent({ key })
  class WholeGateway {
    @SubscribeMessage('say') say(): void {}
  }
  @Resolver()
  class PayResolver {
    @Mutation(() => String)
    @Idempotent({ key })
    pay(): string {
      return 'paid';
    }
  }
  @Resolver()
  class ReadResolver {
    @Query(() => String)
    @Idempotent({ key })
    read(): string {
      return 'read';
    }
  }
  @Resolver('Order')
  class FieldResolver {
    @ResolveField('total')
    @Idempotent({ key })
    total(): string {
      return '1';
    }
  }
  @Resolver()
  @Idempotent({ key })
  class WholeResolver {
    @Mutation(() => String) pay(): string {
      return 'paid';
    }
  }
  class Base {
    @Idempotent() pay(): void {}
  }
  @Injectable()
  class InheritingService extends Base {}

  it.each([
    [ChatGateway, 'ChatGateway.say', 'a handler of WebSocket messages'],
    [WholeGateway, 'WholeGateway', 'a handler of WebSocket messages'],
    [PayResolver, 'PayResolver.pay', 'a GraphQL resolver'],
    [ReadResolver, 'ReadResolver.read', 'a GraphQL resolver'],
    [FieldResolver, 'FieldResolver.total', 'a GraphQL resolver'],
    [WholeResolver, 'WholeResolver', 'a GraphQL resolver'],
    [InheritingService, 'InheritingService.pay', 'no handler of HTTP requests or messages'],
  ])('is refused at boot: %p', async (provider, where, kind) => {
    const said = await boot([], [provider]);
    expect(said).toContain(`@Idempotent() on ${where}: this is ${kind}`);
    expect(said).toContain('IdempotencyService.run()');
  });

  it('is refused as a method of a controller that Nest does not call', async () => {
    @Controller('orders')
    class OrdersController {
      @Post() create(): void {}
      @Idempotent() helper(): void {}
    }
    expect(await boot([OrdersController])).toContain('@Idempotent() on OrdersController.helper: this method handles');
  });
});
